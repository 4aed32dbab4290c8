"""``pgstow check`` examines the key that signs, whether it is trusted, and the folder that remembers chains."""

import json
from pathlib import Path

import pytest
from support.findings import by_subject
from support.pgstow import assert_one_sentence, run_pgstow
from support.signing import KeyFiles, make_key

from pipeline.backup.signing import Signing
from pipeline.catalog.keys import BackupRef
from pipeline.check.finding import Severity
from pipeline.check.signing import examine_signing, examine_states
from pipeline.trust.envelope import Signer
from pipeline.trust.policy import Trust
from pipeline.trust.statement import Purpose
from storage_backends.memory import MemoryBackend

REF = BackupRef("prod", "shop", "")
OK, WARNING, PROBLEM = Severity.OK, Severity.WARNING, Severity.PROBLEM


@pytest.fixture
def key(tmp_path: Path) -> KeyFiles:
    made = make_key(tmp_path)
    made.private.chmod(0o600)
    return made


def outcomes(signing: Signing, *purposes: Purpose) -> dict[str, Severity]:
    found = examine_signing(signing, purposes or (Purpose.BACKUP,))
    return {subject: one.outcome for subject, one in by_subject(list(found)).items()}


def test_a_key_that_signs_is_named_by_its_id(key: KeyFiles, tmp_path: Path) -> None:
    [finding] = examine_signing(Signing(key.signer, "db1", tmp_path, key.trust), Purpose)
    assert finding.outcome is OK
    assert key.trusted().key.keyid in finding.sentence


def test_a_key_that_cannot_sign_is_a_problem(key: KeyFiles, tmp_path: Path) -> None:
    """Credentials of a KMS may read the public key, but not sign. A KMS may also have another key than it says."""
    other = make_key(tmp_path, "other").signer
    broken = (
        Signer(key.signer.uri, key.signer.public_key, object()),
        Signer("awskms:x", key.signer.public_key, other._signer),
    )
    for signer in broken:
        assert outcomes(Signing(signer, "db1", tmp_path)) == {"signing": PROBLEM}


def test_a_key_that_nobody_trusts_for_its_purposes_is_a_warning(key: KeyFiles, tmp_path: Path) -> None:
    stranger = make_key(tmp_path, "stranger")
    for trust, purposes, trusted in (
        (None, (Purpose.BACKUP,), True),
        (key.trust, tuple(Purpose), True),
        (stranger.trust, (Purpose.BACKUP,), False),
        (Trust((key.trusted("backup,prune"),)), (Purpose.BACKUP, Purpose.PRUNE), True),
        (Trust((key.trusted("backup,prune"),)), tuple(Purpose), False),
    ):
        found = outcomes(Signing(key.signer, "db1", tmp_path, trust), *purposes)
        assert found == {"signing": OK} | ({} if trusted else {"trusted keys": WARNING})


def test_a_private_key_that_others_may_read_is_a_warning(key: KeyFiles, tmp_path: Path) -> None:
    key.private.chmod(0o640)
    assert outcomes(Signing(key.signer, "db1", tmp_path)) == {"signing": OK, "private key": WARNING}


def test_the_folder_of_states_is_examined_and_nothing_is_made(key: KeyFiles, tmp_path: Path) -> None:
    store, file = MemoryBackend(), tmp_path / "file"
    file.write_text("")

    def problems(states: Path) -> list[Severity]:
        return [finding.outcome for finding in examine_states(Signing(key.signer, "db1", states), store, REF)]

    assert not problems(tmp_path / "new" / "states")
    assert not (tmp_path / "new").exists()
    assert problems(file / "states") == [PROBLEM]
    Signing(key.signer, "db1", tmp_path).state_of(store, REF).path.write_text("damaged")
    assert problems(tmp_path) == [PROBLEM]


def test_check_and_config_check_examine_signing(key: KeyFiles, tmp_path: Path) -> None:
    stranger, store, config = make_key(tmp_path, "stranger"), tmp_path / "store", tmp_path / "pgstow.toml"
    sign = ("--sign-with", f"file:{key.private}", "--trusted-key", stranger.public, "--state-dir", tmp_path / "states")
    key.private.chmod(0o644)
    result = run_pgstow("check", "host=127.0.0.1 port=1 dbname=x", "--to", store, "--json", *sign)
    assert result.exit_code == 10
    alone = run_pgstow("check", "dbname=x", "--to", store, *sign[2:4])
    assert_one_sentence(alone, 2, "--trusted-key needs --sign-with")
    found = {one["subject"]: one["outcome"] for one in json.loads(result.stdout)["findings"]}
    assert {name: found[name] for name in ("signing", "private key", "trusted keys")} == {
        "signing": "ok",
        "private key": "warning",
        "trusted keys": "warning",
    }
    config.write_text(f"""
        [signing]
        key = "file:{key.private}"
        state_dir = "{key.private}/states"
        [trust]
        keys = ["{key.public}:backup"]
        [destinations.local]
        url = "{store}"
        [databases.x]
        conninfo = "host=127.0.0.1 port=1 dbname=x"
        retention = "short"
        verify = "bytes"
        [retention.short]
        keep_last = 1
        [retention.default]
        keep_last = 9
    """)
    result = run_pgstow("config", "check", "--config", config, "--connect")
    assert result.exit_code == 10
    assert f"No database in {config} uses [retention.default]." in result.stderr
    assert "[retention.short]" not in result.stderr
    assert "No trusted key with the purpose verify or prune" in result.stdout
    assert "✗ state folder: " in result.stdout
