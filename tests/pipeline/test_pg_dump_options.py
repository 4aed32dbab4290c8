from pathlib import Path

import pytest

from pipeline.backup.request import BackupRequest
from pipeline.catalog.origin import DumpOptions
from pipeline.cluster.request import ClusterRequest
from pipeline.errors import InvalidRequest
from pipeline.pg_dump_filter import parse_filters, read_filters
from pipeline.pg_dump_options import REFUSED, SUPPORTED, parse_option
from pipeline.postgres.conninfo import Conninfo
from pipeline.selection import Selection


def select(*options: str) -> Selection:
    return Selection().with_options(map(parse_option, options))


def test_options_are_passed_on_in_a_spelling_that_every_pg_dump_takes() -> None:
    given = ("--no-comments", "-x", "--extension=a=b", "-e=c", "--blobs", "--serializable-deferrable")
    chosen = select(*given)
    assert list(map(str, chosen.options)) == [
        "--no-comments",
        "--no-privileges",
        "--extension=a=b",
        "--extension=c",
        "--large-objects",
        "--serializable-deferrable",
    ]
    assert chosen.arguments() == ["--no-comments", "--no-privileges", "--extension=a=b", "--extension=c", "-b"]
    assert chosen.arguments_of_cluster() == ["--no-comments", "--no-privileges"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--inserts"], "doesn't take pg_dump's option --inserts: .*COPY"),
        (["-Z"], "option -Z: .*--level"),
        (["--include-foreign-data=x"], "write the rows into the foreign server"),
        (["--unheard-of"], "is not an option of pg_dump"),
        (["no-comments"], "is not an option of pg_dump"),
        ([""], "is not an option of pg_dump"),
        (["--no-comments=1"], "takes no value"),
        (["--no-comments="], "takes no value"),
        (["--role"], "needs a value: write --role=ROLE"),
        (["--role=a", "--role=b"], "given twice"),
        (["-x", "--no-privileges"], "given twice"),
        (["-b", "-B"], "exclude each other"),
        (["--filter=/nonexistent"], "can't be read: No such file"),
    ],
)
def test_unsupported_and_wrong_options_are_refused(options: list[str], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        select(*options)


def test_no_option_is_both_supported_and_refused() -> None:
    names = [name for option in SUPPORTED for name in (option.name, option.short, option.also) if name]
    assert len(set(names)) == len(names)
    assert not REFUSED.keys() & set(names)


@pytest.mark.parametrize(
    ("option", "format_", "words"),
    [
        ("--no-owner", "custom", "give the option when you restore"),
        ("--no-tablespaces", "directory", "give the option when you restore"),
        ("--encoding=EBCDIC", "directory", "can.t dump in the encoding"),
        ("--encoding=SQL_ASCII", "directory", "can.t dump in the encoding"),
        ("--encoding=sjis", "directory", "can.t dump in the encoding"),
        ("--encoding=utf-16", "directory", "can.t dump in the encoding"),
    ],
)
def test_options_without_effect_or_meaning_are_refused(option: str, format_: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        BackupRequest(Conninfo({}), selection=select(option), format=format_)  # type: ignore[arg-type]


def test_options_fit_a_backup_or_a_cluster() -> None:
    request = BackupRequest(Conninfo({}), selection=select("--no-owner", "--role=r", "-E=iso-8859-5"), format="plain")
    assert request.source.role == "r"
    assert ClusterRequest(request).each is request
    with pytest.raises(InvalidRequest, match=r"pg_dumpall, .* has no --no-large-objects"):
        ClusterRequest(BackupRequest(Conninfo({}), selection=select("-B"), format="plain"))
    with pytest.raises(InvalidRequest, match="select parts of them"):
        ClusterRequest(BackupRequest(Conninfo({}), selection=select("--extension=a")))


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ([], True),
        (["-B"], False),
        (["-e=x"], False),
        (["-e=x", "-b"], True),
        (["--table-and-children=x"], False),
        (["--exclude-table-and-children=x"], True),
    ],
)
def test_large_objects_are_dumped_unless_options_exclude_them(options: list[str], taken: bool) -> None:
    assert select(*options).takes_large_objects is taken


@pytest.mark.parametrize(
    ("options", "partial"),
    [
        ([], False),
        (["--strict-names", "--role=r", "--encoding=LATIN1", "--statistics"], False),
        (["--strict-names", "--no-comments"], True),
        (["--table-and-children=a"], True),
        (["--enable-row-security"], True),
        (["--an-option-of-tomorrow"], True),
        (["nonsense"], True),
    ],
)
def test_a_backup_is_partial_unless_each_option_is_known_to_leave_nothing_out(
    options: list[str], partial: bool
) -> None:
    assert DumpOptions(format="directory", jobs=1, only=None, options=options).partial is partial


def test_filters_become_options(tmp_path: Path) -> None:
    file = tmp_path / "filters"
    file.write_text(
        "\n# a comment\n  include table a.b # another\nINCLUDE  table_and_children  c\n\n"
        'exclude schema "s # 1"\nexclude table_data "line\n2"."d\\n"\ninclude extension e*\nexclude table f . "G"\n'
    )
    chosen = Selection(tables=("first",)).with_options(
        [parse_option(f"--filter={file}"), parse_option("--no-comments")]
    )
    assert chosen.tables == ("first", "a.b")
    assert chosen.exclude_schemas == ('"s # 1"',)
    assert chosen.exclude_table_data == ('"line\n2"."d\n"',)
    assert chosen.exclude_tables == ('f."G"',)
    assert list(map(str, chosen.options)) == ["--table-and-children=c", "--extension=e*", "--no-comments"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# fine\n\ntable a\n", "Line 3 of f is not a filter"),
        ("include table", "Line 1"),
        ("include table # a\n", "Line 1"),
        ("include view a", "Line 1"),
        ("include table_data a", "Line 1"),
        ('include table "a\n', "Line 1"),
        ("include table a\nexclude foreign_data b", "Line 2"),
        ("include foreign_data b", "foreign server"),
    ],
)
def test_invalid_filters_are_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse_filters(text, "f")


def test_a_file_without_filters_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="NUL character"):
        read_filters(Path("/dev/zero"))
    with pytest.raises(InvalidRequest, match="can't be read: Is a directory"):
        read_filters(Path("/"))
