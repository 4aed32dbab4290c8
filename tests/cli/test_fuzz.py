"""No text in any option of any command, or in any key of pgstow.toml, leads to exit code 1, which means a bug.

The tests find the options in the tree of commands, and the keys in the model, so they also try new ones. A few options have odd values. The
other options have sensible values, so that pgstow gets as far as possible.
"""

import json
import os
import types
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from support.in_process import call_pgstow
from support.pgstow import Result
from support.shelf import BackupBuilder

from cli.main import app
from pipeline.nightly.settings import Config
from storage_backends import open_backend

EXAMPLES = int(os.environ.get("PGSTOW_FUZZ", "2"))
"""The number of examples for each command. A longer search can find more: PGSTOW_FUZZ=1000."""
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="PGSTOW_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
ENVIRONMENT = {
    "PGHOST": "/nonexistent",
    "PGCONNECT_TIMEOUT": "2",
    "PGSTOW_STORE": "",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
}
SILENT = frozenset({"yes", "help", "install_completion", "show_completion"})
"""Options that aren't tried. ``--yes`` would change the store, and the others don't run the command."""
AT_ONCE = {"spread": "0s", "give_up_after": "0", "retries": "0"}
"""Options that could make the test wait, each with the only value that the test gives it."""


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def words(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split())


numbers = st.one_of(
    st.integers().map(str),
    words("nan inf -inf 1e300 1e999 0x10 1_000 ٣ -0 0.0 99999999999999999999 1.5 +1 NaN 16MiB 30d 99999d 1s 9w"),
    st.integers(0, 6000).map(lambda length: "9" * length),
)
moments = st.builds(
    "{}-{}T{}{}".format,
    st.sampled_from(["0001", "9999", "2026", "0000", "10000", "1969", "2038"]),
    st.sampled_from(["01-01", "12-31", "02-29", "W01", "001"]),
    st.sampled_from(["00:00", "23:59:59.999999", "24:00", "", "02:30:60"]),
    st.sampled_from(["", "Z", "+14:00", "-14:00", "+23:59:59.999999", "-00:01", "+99:99"]),
)
characters = st.characters(
    exclude_characters="\0/", exclude_categories=("Cs",)
)  # so that a path stays in the test's folder
texts = st.one_of(
    st.text(characters, max_size=20),
    st.text(st.sampled_from("\x01\x1b\x7f\x85\udce9\u2028\ufeff'\"\\%=:,;@?#[]{}() *.$|^-+x1é€😀"), max_size=20),
    st.text(st.sampled_from("ab."), min_size=60, max_size=80),
    st.sampled_from("ax.[(é").flatmap(lambda character: st.integers(1, 9000).map(lambda length: character * length)),
    numbers,
    moments,
)
conninfos = st.one_of(
    texts,
    st.builds(
        "{}='{}'".format,
        words(
            "dbname user password port options connect_timeout sslmode service passfile client_encoding hostaddr "
            "sslcert target_session_attrs keepalives application_name requirepeer channel_binding "
            "load_balance_hosts host"
        ),
        texts,
    ),
    st.builds("postgresql://{}".format, texts),
    st.builds("postgresql:///x?{}={}".format, texts, texts),
)
urls = st.one_of(
    texts.map(lambda text: f"./{text}"),
    texts.map("s3://bucket?region=x&endpoint=http://127.0.0.1:9&{}".format),
    texts.map("s3://{}?region=x&endpoint=http://127.0.0.1:9".format),
    st.builds("s3://bucket/{}?region=x&endpoint=http://127.0.0.1:9&{}={}".format, texts, texts, texts),
    texts.map("gs://{}".format),
    st.builds("gs://bucket/{}?{}={}".format, texts, texts, texts),
    texts.map("file://{}".format),
    st.builds("{}://{}".format, texts, texts),
)
store_options = st.builds(
    "{}={}".format,
    words(
        "endpoint ca_bundle region profile path_style storage_class kms_key checksum create_only connect_timeout "
        "read_timeout project retain_days retain_until lock_mode"
    ),
    st.one_of(texts, texts.map("http://127.0.0.1:{}".format), texts.map("http://{}".format)),
)
HOSTILE: dict[str, st.SearchStrategy[str]] = {
    "conninfo": conninfos,
    "into": conninfos,
    "scratch": conninfos,
    "to": urls,
    "from_": urls,
    "store_option": store_options,
    "map_role": st.builds("{}={}".format, texts, texts),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that has a backup, and with a configuration."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "store").mkdir()
    with closing(open_backend(str(folder / "store"))) as backend:
        shelf = BackupBuilder(backend)
        shelf.attest(shelf.add(timedelta(hours=1)))
        shelf.add_cluster(timedelta(days=1))
    (folder / "pgstow.toml").write_text(f"[destinations.a]\nurl='{folder}/store'\n[databases.b]\nconninfo='b'\n")
    (folder / "listed").write_text("1; 1 1 TABLE\n")
    return folder


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_option_of_any_command_ends_in_a_bug(
    path: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    parameters = [parameter for parameter in COMMANDS[path].params if parameter.name not in SILENT]

    @FUZZ
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        names = [parameter.name for parameter in parameters]
        odd = data.draw(st.sets(st.sampled_from(names), max_size=3)) if names else set()
        arguments = list(path)
        for parameter in parameters:
            arguments += _words(parameter, parameter.name in odd, home, data)
        _assert_no_bug(call_pgstow(*arguments, env=ENVIRONMENT), arguments)

    attempt()


def _words(parameter: Any, odd: bool, home: Path, data: st.DataObject) -> list[str]:
    """Return a parameter as a person types it: an odd parameter with any value, and another parameter with a sensible value if it needs one."""
    if odd:
        if getattr(parameter, "is_flag", False):
            return [parameter.opts[0]]
        text = AT_ONCE.get(parameter.name) or data.draw(HOSTILE.get(parameter.name, texts), label=parameter.name)
    else:
        sensible = {
            "to": "store",
            "from_": "store",
            "into": "dbname=x",
            "backup": "latest",
            "image": "image",
            "config": str(home / "pgstow.toml"),
            **AT_ONCE,
        }
        if parameter.name not in sensible:
            return []
        text = sensible[parameter.name]
    if parameter.param_type_name == "argument":
        return ["--", text] if text.startswith("-") else [text]
    option = max(parameter.opts, key=len)
    return [f"{option}={text}"]


def _assert_no_bug(result: Result, attempt: object) -> None:
    assert result.exit_code != 1, (attempt, result.stderr[-3000:])
    assert "Traceback" not in result.stderr, attempt


def _keys(model: type[BaseModel], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the place of each key of pgstow.toml. Tables with a free name have the name ``one``."""
    for name, field in model.model_fields.items():
        yield (*place, name)
        for kind, through in _models(field.annotation):
            yield from _keys(kind, (*place, name, *through))


def _models(annotation: Any, through: tuple[str, ...] = ()) -> Iterator[tuple[type[BaseModel], tuple[str, ...]]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, through
    elif get_origin(annotation) in (Union, types.UnionType, dict) or hasattr(annotation, "__metadata__"):
        more = ("one",) if get_origin(annotation) is dict else ()
        for argument in get_args(annotation):
            yield from _models(argument, (*through, *more))


KEYS = [key for key in _keys(Config) if key[-1] not in AT_ONCE]
toml_texts = texts.filter(lambda text: text.isascii() or "\udce9" not in text).map(_quoted := json.dumps) | st.just(
    '"a\\u0000b"'
)
toml_values = st.recursive(
    st.one_of(
        toml_texts,
        numbers,
        conninfos.filter(lambda text: "\udce9" not in text).map(_quoted),
        urls.filter(lambda text: "\udce9" not in text).map(_quoted),
        st.sampled_from(
            ["true", "nan", "inf", "-inf", "1979-05-27", "0001-01-01T00:00:00+14:00", "07:32:00", "1e300", "[]", "{}"]
        ),
        st.sampled_from(["{env='FUZZ'}", "{env='PATH'}", "{env=''}", "{env=1}", "{env=[]}", "{env={}}", "{env='A=B'}"]),
        st.sampled_from([3, 90, 3000]).map(lambda depth: "[" * depth + "]" * depth),
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: f"[{','.join(values)}]")
        | st.dictionaries(toml_texts, inner, max_size=3).map(
            lambda table: "{" + ",".join(f"{key}={value}" for key, value in table.items()) + "}"
        )
    ),
    max_leaves=5,
)


def test_the_keys_of_all_tables_are_found() -> None:
    assert {("destinations", "one", "url"), ("databases", "one", "conninfo"), ("monitoring", "ping")} <= set(KEYS)
    assert {("defaults", "jobs"), ("retention", "one", "keep_within")} <= set(KEYS)


@settings(FUZZ, max_examples=5 * EXAMPLES)
@given(st.dictionaries(st.sampled_from(KEYS), toml_values, max_size=3), texts)
def test_no_key_of_the_configuration_ends_in_a_bug(
    home: Path, values: dict[tuple[str, ...], str], variable: str
) -> None:
    sensible = {("destinations", "a", "url"): "'store'", ("databases", "b", "conninfo"): "'b'"}
    lines = [f"{'.'.join(key)} = {value}" for key, value in (sensible | values).items()]
    path = home / "fuzzed.toml"
    path.write_text("\n".join(lines))
    for command in (["config", "check"], ["run", "--quiet"]):
        result = call_pgstow(*command, "--config", path, env={**ENVIRONMENT, "FUZZ": variable})
        _assert_no_bug(result, path.read_text())
