"""The keys of signatures: elliptic curve keys (P-256, P-384, P-521), which model-signing uses.

The private key is a PEM file or in a device that a PKCS #11 URI names. Its content is never in a message, and a URI
with a PIN is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure, first_line
from components.shared.base.os_errors import os_failure

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

# The variables that name the keys: the public one by its path or as PEM text, the private one by its path or a URI.
PUBLIC_KEY = "WIKIGPT_PUBLIC_KEY"
SIGNING_KEY = "WIKIGPT_SIGNING_KEY"
PASSPHRASE = "WIKIGPT_SIGNING_KEY_PASSWORD"
# The private key in the pod of the step register, where the Secret of `cluster.signing_secret` is mounted.
MOUNTED_KEY = "/etc/wikigpt/signing/key.pem"
_BEGIN = "-----BEGIN"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MAKE = "make one by `openssl ecparam -name prime256v1 -genkey -noout -out key.pem`"
_EXTRACT = "extract the public key by `openssl ec -in key.pem -pubout -out public.pem`"


@dataclass(frozen=True)
class PublicKey:
    """A public key.

    Attributes:
        pem: the key in PEM.
        fingerprint: sha256 (hex) of the key as SubjectPublicKeyInfo in DER.
    """

    pem: bytes
    fingerprint: str


@dataclass(frozen=True)
class SigningKey:
    """A private key that is ready to sign.

    Attributes:
        signer: the signer of model-signing.
        public: the public key that belongs to it.
    """

    signer: Any
    public: PublicKey


def configured_public_key() -> PublicKey | None:
    """The key that `WIKIGPT_PUBLIC_KEY` names, by which versions must verify; None if the variable is not set.

    Raises:
        Failure: the variable names no public key that can be used.
    """
    value = os.environ.get(PUBLIC_KEY, "")
    if not value.strip():
        return None
    return read_public_key(Path(value).expanduser()) if is_path(value) else _public_key(value.encode(), PUBLIC_KEY)


def read_public_key(path: Path) -> PublicKey:
    """Reads a public key in PEM.

    Raises:
        Failure: the file cannot be read, or is not a public key that signatures can be verified by.
    """
    return _public_key(_read(path, "public key"), str(path))


def open_signing_key(reference: str) -> SigningKey:
    """Opens the private key at a path or a PKCS #11 URI.

    Raises:
        Failure: it cannot be read, or is not a private key that model-signing can use.
    """
    if is_uri(reference):
        return _of_device(reference)
    from model_signing.signing import Config

    path = Path(reference).expanduser()
    public = check_key_file(path)
    # The library reads the file again. Its annotation asks for a text, and the function that it calls for bytes.
    config: Any = Config()
    return SigningKey(config.use_elliptic_key_signer(private_key=path, password=_passphrase())._signer, public)


def is_uri(reference: str) -> bool:
    """Whether a reference to a private key is the URI of a device and no path."""
    return reference.startswith("pkcs11:")


def is_path(reference: str) -> bool:
    """Whether a reference to a key is a path, and neither a URI nor the key itself."""
    return not is_uri(reference) and _BEGIN not in reference


def problem_of(reference: str) -> str | None:
    """The problem with a reference to a private key as the rest of a sentence, judged by its form; None if it has none.

    The value may be a secret by mistake, so the sentence does not quote it.
    """
    if _BEGIN in reference or "\n" in reference:
        return "must be the path of a key file, and not the key itself"
    if is_uri(reference) and re.search(r"pin-value\s*=", reference, re.IGNORECASE):
        return "must not hold a PIN, which everybody could read: name a file with the PIN by pin-source"
    if not reference.strip() or re.match(r"[a-z][a-z0-9+.-]*://", reference, re.IGNORECASE):
        return "must be the path of a key file or a pkcs11: URI"
    return None


def check_key_file(path: Path) -> PublicKey:
    """The public key that belongs to the private key in a file.

    Raises:
        Failure: the file cannot be read, or is not a private key that model-signing can use.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content, where = _read(path, "signing key"), str(path)
    if b"PUBLIC KEY-----" in content:
        raise _unusable("The signing key is a public key", where, "name the private key that belongs to it")
    passphrase = _passphrase()
    try:
        key = load_pem_private_key(content, passphrase)
    except TypeError:
        if passphrase is None:
            raise _unusable(
                "The signing key is encrypted", where, f"give its passphrase in the variable {PASSPHRASE}"
            ) from None
        raise _unusable(
            f"The signing key is not encrypted, and {PASSPHRASE} gives a passphrase", where, "unset the variable"
        ) from None
    except (ValueError, UnsupportedAlgorithm):  # their messages may quote parts of the file
        if passphrase is not None:
            raise _unusable(
                "The signing key cannot be read with this passphrase", where, f"correct the variable {PASSPHRASE}"
            ) from None
        raise _unusable("The file is not a private key in PEM", where, _MAKE) from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise _unusable(f"The signing key is {_kind(key)}, and signatures need an elliptic curve key", where, _MAKE)
    return _checked(key.public_key(), "signing key", where)


def _of_device(uri: str) -> SigningKey:
    if find_spec("PyKCS11") is None:
        raise _unusable(
            "The package PyKCS11, by which keys in a device are used, is not installed",
            uri.partition("?")[0],
            "install it by `pip install PyKCS11`",
        )
    from model_signing.signing import Config

    if problem := problem_of(uri):
        raise _unusable(f"The URI of the signing key {problem}", "the signing key", "change the URI")
    where = uri.partition("?")[0]
    try:
        config: Any = Config()
        signer = config.use_pkcs11_signer(pkcs11_uri=uri)._signer
        key = signer.public_key()
    except Exception as error:  # of PyKCS11, of the module of the device, and of the library
        raise _unusable(
            f"The signing key cannot be used: {type(error).__name__}, {first_line(error)}",
            where,
            "correct the URI and its pin-source, or install PyKCS11 and the module of the device",
        ) from None
    return SigningKey(signer, _checked(key, "signing key", where))


def _public_key(content: bytes, where: str) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY-----" in content:
        raise _unusable("The public key is a private key, which whoever verifies must not have", where, _EXTRACT)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable("The file is not a public key in PEM", where, _EXTRACT) from None
    return _checked(key, "public key", where)


def _checked(key: Any, what: str, where: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    if not isinstance(key, EllipticCurvePublicKey):
        raise _unusable(f"The {what} is {_kind(key)}, and signatures need an elliptic curve key", where, _MAKE)
    if key.curve.name not in _CURVES:
        raise _unusable(f"The {what} is of the curve {key.curve.name}, which model-signing does not use", where, _MAKE)
    return _described(key)


def _described(key: EllipticCurvePublicKey) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem, der = (key.public_bytes(form, PublicFormat.SubjectPublicKeyInfo) for form in (Encoding.PEM, Encoding.DER))
    return PublicKey(pem, hashlib.sha256(der).hexdigest())


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE, "").encode() or None


def _kind(key: Any) -> str:
    """The kind of a key as a phrase, such as `an RSA key`."""
    name = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey").upper()
    return f"an {name} key" if name[:1] in "AEIOR" else f"a {name} key"


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _unusable(f"There is no {what} at this path", str(path), "correct the path") from None
    except OSError as error:
        raise os_failure(error, path, what=f"Could not read the {what}", exit_code=ExitCode.USAGE) from error


def _unusable(what: str, where: str, remedy: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.USAGE)
