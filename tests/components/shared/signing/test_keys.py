"""Keys that fit, and one sentence for each that does not, which never shows the key."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from components.register.settings import RegisterSettings
from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.settings import parse_section
from components.shared.signing.keys import (
    PASSPHRASE,
    PUBLIC_KEY,
    SIGNING_KEY,
    configured_public_key,
    open_signing_key,
    read_public_key,
)
from components.shared.signing.reference import check_signing_key
from tests.signing import make_keys


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PUBLIC_KEY, SIGNING_KEY, PASSPHRASE):
        monkeypatch.delenv(name, raising=False)


def refused(path: Path, sentence: str) -> str:
    with pytest.raises(Failure, match=sentence) as raised:
        open_signing_key(str(path))
    assert raised.value.exit_code == ExitCode.USAGE
    return str(raised.value)


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_a_pair_has_the_fingerprint_that_openssl_computes(tmp_path: Path, curve: type[ec.EllipticCurve]) -> None:
    private, public = make_keys(tmp_path, key=ec.generate_private_key(curve()))
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"], check=True, capture_output=True
    ).stdout
    assert open_signing_key(str(private)).public == read_public_key(public)
    assert read_public_key(public).fingerprint == hashlib.sha256(der).hexdigest()


def test_an_encrypted_key_is_opened_by_its_passphrase_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = make_keys(tmp_path, passphrase=b"Xphrase1")
    refused(private, "The signing key is encrypted .*give its passphrase in the variable WIKIGPT_SIGNING_KEY_PASSWORD")
    monkeypatch.setenv(PASSPHRASE, "Xphrase2")
    assert "Xphrase2" not in refused(private, "cannot be read with this passphrase")
    monkeypatch.setenv(PASSPHRASE, "Xphrase1")
    assert open_signing_key(str(private)).public == read_public_key(public)
    refused(make_keys(tmp_path, "open")[0], "is not encrypted, and WIKIGPT_SIGNING_KEY_PASSWORD gives a passphrase")


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (rsa.generate_private_key(65537, 2048), "The signing key is an RSA key, and signatures need an elliptic curve"),
        (ed25519.Ed25519PrivateKey.generate(), "The signing key is an ED25519 key, and signatures need"),
        (ec.generate_private_key(ec.SECP256K1()), "of the curve secp256k1, which model-signing does not use"),
    ],
    ids=["rsa", "ed25519", "secp256k1"],
)
def test_a_key_of_another_kind(tmp_path: Path, key: object, sentence: str) -> None:
    private, public = make_keys(tmp_path, key=key)
    refused(private, sentence)
    with pytest.raises(Failure, match=sentence.replace("signing key", "public key")):
        read_public_key(public)


def test_files_that_are_no_keys(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    (tmp_path / "text").write_text("Xsecret: hello")
    assert "Xsecret" not in refused(tmp_path / "text", "The file is not a private key in PEM")
    refused(public, "The signing key is a public key")
    refused(tmp_path / "none", "There is no signing key at this path")
    refused(tmp_path, "Could not read the signing key: Is a directory")
    with pytest.raises(Failure, match="The public key is a private key"):
        read_public_key(private)
    with pytest.raises(Failure, match="The file is not a public key in PEM"):
        read_public_key(tmp_path / "text")


def test_the_public_key_is_configured_by_its_path_or_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, public = make_keys(tmp_path)
    assert configured_public_key() is None
    monkeypatch.setenv(PUBLIC_KEY, str(public))
    by_path = configured_public_key()
    monkeypatch.setenv(PUBLIC_KEY, public.read_text())
    assert by_path == configured_public_key() == read_public_key(public)
    monkeypatch.setenv(PUBLIC_KEY, str(tmp_path / "none"))
    with pytest.raises(Failure, match="There is no public key at this path"):
        configured_public_key()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("-----BEGIN EC PRIVATE KEY-----\nXkey", "signing_key must be the path of a key file, and not the key itself"),
        ("pkcs11:token=t;object=o?pin-value=Xpin", "signing_key must not hold a PIN, which everybody could read"),
        ("awskms:///alias/Xalias", "signing_key must be the path of a key file or a pkcs11: URI"),
        ("", "signing_key must be the path of a key file or a pkcs11: URI"),
    ],
)
def test_a_setting_that_is_a_secret_is_refused_and_not_shown(value: str, sentence: str) -> None:
    with pytest.raises(Failure, match=sentence) as raised:
        parse_section(RegisterSettings, {"signing_key": value}, "register")
    assert not {"Xkey", "Xpin", "Xalias"} & set(str(raised.value).replace("=", " ").split())


def test_a_run_that_must_sign_fails_at_its_start_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match=r"Every version must be signed .*no key is named.*register.signing=never"):
        check_signing_key("required", None)
    assert check_signing_key("optional", None) is None
    private, public = make_keys(tmp_path)
    assert check_signing_key("required", str(private)) == read_public_key(public).fingerprint
    monkeypatch.setenv(SIGNING_KEY, str(tmp_path / "none"))
    assert check_signing_key("never", None) is None
    with pytest.raises(Failure, match="There is no signing key at this path"):
        check_signing_key("optional", None)
    monkeypatch.setenv(SIGNING_KEY, "pkcs11:object=o?pin-value=Xpin")
    with pytest.raises(Failure, match="WIKIGPT_SIGNING_KEY must not hold a PIN") as raised:
        check_signing_key("required", None)
    assert "Xpin" not in str(raised.value)


def test_a_device_that_is_not_there_is_said_without_its_pin(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("Xpin")
    with pytest.raises(Failure, match=r"The signing key cannot be used|PyKCS11, .* is not installed") as raised:
        open_signing_key(f"pkcs11:token=t;object=o?module-path={tmp_path}/none.so&pin-source=file:{tmp_path}/pin")
    assert "Xpin" not in str(raised.value)
