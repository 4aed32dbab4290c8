"""Signatures: what a key signs, openssl and another pgstow accept, and nobody else can make."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.signing import KINDS, KeyFiles, digests_signed, make_key, openssl

from pipeline.errors import InvalidRequest, ProgramMissing, SigningFailed, Untrusted
from pipeline.trust.policy import Trust, TrustedKey
from pipeline.trust.signing import open_signer
from pipeline.trust.statement import Link, Purpose, Verification, make_statement

KEY = "manifests/prod/shop/20261123T020000Z-7f3a9c.json"
MANIFEST = b"a manifest"
SHA256 = hashlib.sha256(MANIFEST).hexdigest()
LINK = Link(writer="db1", sequence=1, predecessor=None)

BY_HAND = """
set -eu
jq -j .payload "$1" | base64 -d > payload
type=$(jq -r .payloadType "$1")
{ printf 'DSSEv1 %d %s %d ' ${#type} "$type" "$(wc -c < payload)"; cat payload; } > signed
jq -r '.signatures[0].sig' "$1" | base64 -d > signature
"""


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("key"))


def signed(files: KeyFiles) -> bytes:
    return files.signer.sign(make_statement(KEY, SHA256, LINK))


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_is_believed_and_openssl_accepts_it(tmp_path: Path, kind: str) -> None:
    files = make_key(tmp_path, kind=kind)
    envelope = signed(files)
    found = files.trust.read(envelope, KEY, Link)
    assert (found.predicate, found.subject_sha256) == (LINK, SHA256)
    der = openssl("pkey", "-pubin", "-in", files.public, "-outform", "DER")
    assert json.loads(envelope)["signatures"][0]["keyid"] == hashlib.sha256(der).hexdigest()

    (tmp_path / "envelope").write_bytes(envelope)
    subprocess.run(["bash", "-c", BY_HAND, "bash", "envelope"], cwd=tmp_path, check=True)
    statement = json.loads((tmp_path / "payload").read_bytes())
    assert statement["subject"] == [{"name": KEY, "digest": {"sha256": SHA256}}]
    assert hashlib.sha256((tmp_path / "payload").read_bytes()).hexdigest() == found.sha256
    how: list[str] = {
        "ed25519": ["-rawin"],
        "rsa": ["-rawin", "-digest", "sha256", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:auto"],
        "p384": ["-rawin", "-digest", "sha384"],
    }.get(kind, ["-rawin", "-digest", "sha256"])
    verify = ["pkeyutl", "-verify", "-pubin", "-inkey", files.public, "-in", tmp_path / "signed"]
    assert b"Verified Successfully" in openssl(*verify, "-sigfile", tmp_path / "signature", *how)


def test_only_a_key_that_is_trusted_for_the_purpose_counts(key: KeyFiles, tmp_path: Path) -> None:
    envelope, other = signed(key), make_key(tmp_path, "other")
    for trust in (Trust(()), other.trust, Trust((key.trusted("verify,prune"), other.trusted()))):
        with pytest.raises(Untrusted, match="no trusted key signed it") as caught:
            trust.read(envelope, KEY, Link)
        assert caught.value.fault == "untrusted"
    assert Trust((other.trusted(), key.trusted("backup"))).read(envelope, KEY, Link)


def test_a_signature_counts_only_for_its_object_and_its_kind(key: KeyFiles) -> None:
    envelope = signed(key)

    def fault(refuse: Callable[..., object], *arguments: Any) -> str:
        with pytest.raises(Untrusted) as caught:
            refuse(*arguments)
        return caught.value.fault

    assert fault(key.trust.read, envelope, KEY.replace("shop", "till"), Link) == "swapped"
    assert fault(key.trust.read, envelope, KEY, Verification) == "untrusted"
    found = key.trust.read(envelope, KEY, Link)
    found.check(MANIFEST)
    assert fault(found.check, b"another") == "swapped"


def test_a_changed_payload_is_not_believed(key: KeyFiles) -> None:
    content = json.loads(signed(key))
    forged = make_statement(KEY, hashlib.sha256(b"another").hexdigest(), LINK)
    content["payload"] = base64.b64encode(forged).decode()
    with pytest.raises(Untrusted, match="no trusted key"):
        key.trust.read(json.dumps(content).encode(), KEY, Link)


VALID: dict[str, Any] = {
    "payload": "e30=",
    "payloadType": "application/vnd.in-toto+json",
    "signatures": [{"keyid": "0", "sig": "AA=="}],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(data=b"[" * 100_000)
@example(data=json.dumps(VALID | {"signatures": VALID["signatures"] * 17}).encode())
@example(data=json.dumps(VALID | {"signatures": VALID["signatures"] * 2}).encode())
@example(data=json.dumps(VALID | {"payload": "é"}).encode())
@example(data=json.dumps(VALID | {"payload": "A"}).encode())
@example(data=json.dumps(VALID | {"payloadType": "\ud800"}).encode())
@example(data=json.dumps(VALID | {"payloadType": "text/plain"}).encode())
@example(data=json.dumps(VALID | {"signatures": []}).encode())
@example(data=json.dumps(VALID | {"signatures": [{"keyid": "0", "sig": 1}]}).encode())
def test_hostile_bytes_are_not_believed(key: KeyFiles, data: bytes) -> None:
    with pytest.raises(Untrusted):
        key.trust.read(data, KEY, Link)


@given(payload=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(payload=b"[" * 100_000)
def test_a_signed_payload_that_is_no_statement_is_not_believed(key: KeyFiles, payload: bytes) -> None:
    with pytest.raises(Untrusted):
        key.trust.read(key.signer.sign(payload), KEY, Link)


def test_a_trusted_key_may_name_its_purposes(key: KeyFiles) -> None:
    assert key.trusted().purposes == frozenset(Purpose)
    assert key.trusted("backup,prune").purposes == {Purpose.BACKUP, Purpose.PRUNE}
    with pytest.raises(InvalidRequest, match="purposes 'backups': write some of backup, verify, prune"):
        key.trusted("backups")


def test_a_file_that_holds_no_such_key_is_refused(key: KeyFiles, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="holds no public key"):
        TrustedKey.parse(str(key.private))
    with pytest.raises(InvalidRequest, match="can't be read: Is a directory"):
        TrustedKey.parse(str(tmp_path))
    with pytest.raises(InvalidRequest, match="holds no private key"):
        open_signer(f"file:{key.public}")
    with pytest.raises(InvalidRequest, match="can't be read: No such file"):
        open_signer(f"file:{tmp_path / 'none'}")
    short, curve = tmp_path / "short", tmp_path / "curve"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", short)
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-out", curve)
    with pytest.raises(InvalidRequest, match="at least 2048 bits"):
        open_signer(f"file:{short}")
    with pytest.raises(InvalidRequest, match="can't sign"):
        open_signer(f"file:{curve}")
    (tmp_path / "long").write_bytes(bytes(65 * 1024))
    with pytest.raises(InvalidRequest, match="too long"):
        open_signer(f"file:{tmp_path / 'long'}")


def test_an_encrypted_key_needs_the_file_of_its_passphrase(tmp_path: Path) -> None:
    files, passphrase = make_key(tmp_path, "key", "p256", "-aes256", "-pass", "pass:secret"), tmp_path / "passphrase"
    with pytest.raises(InvalidRequest, match="is encrypted: give --sign-passphrase-file"):
        files.signer.sign(b"")
    passphrase.write_text("secret\n")
    signer = open_signer(f"file:{files.private}", passphrase)
    assert files.trust.read(signer.sign(make_statement(KEY, SHA256, LINK)), KEY, Link)
    passphrase.write_text("public")
    with pytest.raises(InvalidRequest, match="passphrase is wrong, or"):
        open_signer(f"file:{files.private}", passphrase)


@pytest.mark.parametrize("uri", ["", "file:", "key.pem", "file2:key.pem", "-----BEGIN PRIVATE KEY-----"])
def test_an_unknown_place_of_a_key_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(InvalidRequest, match="file:PATH, awskms:KEY or gcpkms:KEY") as caught:
        open_signer(uri)
    assert "PRIVATE" not in str(caught.value)


def test_aws_kms_signs(s3_endpoint: str, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    made = boto3.client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    signer = open_signer(f"awskms:{made}")
    trust = Trust((TrustedKey(signer.public_key, frozenset(Purpose)),))
    with digests_signed():
        envelope = signer.sign(make_statement(KEY, SHA256, LINK))
    assert trust.read(envelope, KEY, Link)
    boto3.client("kms").create_alias(AliasName="alias/gone", TargetKeyId=made)
    signer = open_signer("awskms:alias/gone")
    boto3.client("kms").delete_alias(AliasName="alias/gone")
    with pytest.raises(SigningFailed, match="awskms:alias/gone did not sign: "):
        signer.sign(b"")
    with pytest.raises(SigningFailed, match="awskms:nothing can't be used to sign: "):
        open_signer("awskms:nothing")


@pytest.mark.skipif(find_spec("google.cloud.kms") is not None, reason="Google's library is installed")
def test_google_kms_needs_a_library() -> None:
    with pytest.raises(ProgramMissing, match=r"pip install 'pgstow\[gcpkms\]'"):
        open_signer("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1")
