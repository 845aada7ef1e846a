"""A key in a device, here SoftHSM, signs like a key in a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from components.shared.signing.bundle import verified_statement, verify_folder
from components.shared.signing.keys import read_public_key
from tests.signing import make_keys

KIND = "https://slsa.dev/provenance/v1"
MODULES = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"))
MODULE = next((path for path in MODULES if path.exists()), None)
# In a process of its own: a module of PKCS #11 keeps its login for the life of the process.
SIGN = """
import json, sys
from pathlib import Path
from components.shared.base.failure import Failure
from components.shared.signing.bundle import sign_folder, sign_statement
from components.shared.signing.keys import open_signing_key
folder = Path(sys.argv[2])
try:
    key = open_signing_key(sys.argv[1])
except Failure as failure:
    print(json.dumps({"failure": str(failure)}))
else:
    sign_folder(key, folder, folder / "model.sig")
    sign_statement(key, {"a": "0" * 64}, sys.argv[3], {"x": "y"}, folder / "provenance.sig")
    print(json.dumps({"fingerprint": key.public.fingerprint}))
"""

pytestmark = pytest.mark.skipif(
    not (MODULE and shutil.which("softhsm2-util") and find_spec("PyKCS11")), reason="needs softhsm2 and PyKCS11"
)


def test_a_key_in_a_device(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    (tmp_path / "pin").write_text("1234")
    (folder := tmp_path / "model").mkdir()
    (folder / "config.json").write_text("{}")
    private, public = make_keys(tmp_path)
    environment = {**os.environ, "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf")}

    def softhsm(*arguments: str) -> None:
        subprocess.run(["softhsm2-util", *arguments], env=environment, check=True, capture_output=True)

    def sign(label: str) -> dict[str, str]:
        uri = f"pkcs11:token=wikigpt;object={label}?module-path={MODULE}&pin-source=file:{tmp_path}/pin"
        command = [sys.executable, "-c", SIGN, uri, str(folder), KIND]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    softhsm("--init-token", "--free", "--label", "wikigpt", "--pin", "1234", "--so-pin", "5678")
    softhsm("--import", str(private), "--token", "wikigpt", "--label", "signing", "--id", "01", "--pin", "1234")
    key = read_public_key(public)
    assert sign("signing") == {"fingerprint": key.fingerprint}
    verify_folder(key, folder, folder / "model.sig")
    assert verified_statement(key, KIND, folder / "provenance.sig")["predicate"] == {"x": "y"}
    failure = sign("another")["failure"]
    assert "The signing key cannot be used: ValueError, Could not find any object with label another" in failure
    assert "pin" not in failure.replace("pin-source", "")
