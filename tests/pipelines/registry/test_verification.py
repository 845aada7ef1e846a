"""Signed versions verify, and whatever was changed since is refused."""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.download.versions import pin_versions
from components.register.alias_move import APPROVAL
from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.step import Step
from components.shared.signing.evidence import Evidence, fetch_evidence, signature_digest, signature_folder
from components.shared.signing.keys import PUBLIC_KEY, SIGNING_KEY, PublicKey, read_public_key
from components.shared.signing.provenance import signed_tags
from components.shared.signing.reference import check_signing_key
from components.shared.signing.verification import Check, checks_of
from components.shared.tracking import registry
from components.shared.tracking.sqlite_registry import sqlite_registry
from pipelines.registry.ensemble import score_ensemble
from pipelines.registry.export import export
from pipelines.registry.generation import load_writer
from pipelines.registry.promotion import promote
from pipelines.registry.references import resolve
from pipelines.registry.verification import require_verified, sign, verify
from tests.pipelines.conftest import Command
from tests.registry import another_model, make_folders, make_step, register, register_two
from tests.signing import make_keys

NAME = "wikigpt-sample"
CHECKS = ["signature", "files", "weights", "provenance", "card", "completions", "evaluation"]


@pytest.fixture(scope="session")
def _signed(
    database_with_experiment: Path, hugging_face_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A home with version 1, which is signed and champion, and version 2, which is not signed; copied, never used."""
    root = tmp_path_factory.mktemp("signed")
    private, _ = make_keys(root)
    make_keys(root, "other")
    register_two(root, database_with_experiment, hugging_face_folder, private)
    return root


@pytest.fixture
def key(_signed: Path) -> PublicKey:
    return read_public_key(_signed / "key.public.pem")


@pytest.fixture
def client(_signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Version 1 is signed, version 2 is not. Tags that a test changes stay in the test, and artifacts are shared."""
    shutil.copyfile(_signed / "mlflow.db", tmp_path / "signed.db")
    uri = f"sqlite:///{tmp_path / 'signed.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv(PUBLIC_KEY, str(_signed / "key.public.pem"))
    monkeypatch.delenv(SIGNING_KEY, raising=False)
    return MlflowClient(uri)


@pytest.fixture
def evidence(client: MlflowClient, tmp_path: Path) -> Evidence:
    """What the verification of version 1 reads, as copies that a test may change."""
    found = fetch_evidence(client, resolve(client, "1"), tmp_path / "fetched")
    folders = {name: tmp_path / "copies" / name for name in ("model", "evaluation", "signature")}
    for name, folder in folders.items():
        shutil.copytree(getattr(found, name), folder)
    return replace(found, **folders)


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.seen for check in checks if not check.ok}


def test_a_signed_version_verifies_with_and_without_mlflow(client: MlflowClient, key: PublicKey) -> None:
    version = resolve(client, "1")
    assert version.tags[registry.SIGNED_BY] == key.fingerprint
    assert f"`{key.fingerprint}`" in version.description
    local = sqlite_registry(client.tracking_uri)
    assert local is not None
    for reader in (client, local):
        result = verify(reader, resolve(reader, "1"))
        assert (result.verified, [check.name for check in result.checks]) == (True, CHECKS), result


def test_the_provenance_names_what_made_the_version(evidence: Evidence) -> None:
    bundle = json.loads((evidence.signature / "provenance.sig").read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = statement["predicate"]["buildDefinition"]
    found = {each["name"]: each["digest"] for each in definition["resolvedDependencies"]}
    assert found["sample"] == {"sha256": evidence.tags[registry.DATASET_DIGEST]}
    assert found["wikigpt"] == {"gitCommit": "c0ffee"}
    assert definition["externalParameters"]["settings"]["train.steps"] == "10"
    assert definition["internalParameters"]["tags"][registry.REUSE_KEY] == "1" * 32
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"] == "run-1"
    assert "model.safetensors" in {each["name"] for each in statement["subject"]}


def change_a_file(folder: str, name: str) -> Callable[[Evidence], Evidence]:
    def change(evidence: Evidence) -> Evidence:
        path = getattr(evidence, folder) / name
        path.write_bytes(path.read_bytes() + b" ")
        return evidence

    return change


def add_a_file(folder: str, name: str) -> Callable[[Evidence], Evidence]:
    def add(evidence: Evidence) -> Evidence:
        (getattr(evidence, folder) / name).write_text("")
        return evidence

    return add


def remove_a_file(folder: str, name: str) -> Callable[[Evidence], Evidence]:
    def remove(evidence: Evidence) -> Evidence:
        (getattr(evidence, folder) / name).unlink()
        return evidence

    return remove


def set_tag(name: str, value: str) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, tags={**evidence.tags, name: value})


@pytest.mark.parametrize(
    ("change", "name", "sentence"),
    [
        (change_a_file("model", "config.json"), "files", "config.json differs from what was signed"),
        (add_a_file("model", "pytorch_model.bin"), "files", "pytorch_model.bin was not signed"),
        (add_a_file("model", ".gitattributes"), "files", ".gitattributes was not signed"),
        (remove_a_file("model", "generation_config.json"), "files", "generation_config.json is missing"),
        (change_a_file("model", "model.safetensors"), "weights", "their digest is "),
        (change_a_file("evaluation", "report.html"), "evaluation", "evaluation/report.html differs"),
        (add_a_file("evaluation", "more.json"), "evaluation", "evaluation/more.json was not signed"),
        (lambda evidence: replace(evidence, card=evidence.card + "\n"), "card", "card differs from what was signed"),
        (lambda evidence: replace(evidence, completions=b"{}"), "completions", "completions.json differs"),
        (lambda evidence: replace(evidence, completions=None), "completions", "completions.json is missing"),
        (set_tag(registry.COMMIT, "bad"), "provenance", "the tag wikigpt.commit is 'bad' in the registry"),
        (set_tag("wikigpt.test.word_perplexity", "1.0"), "provenance", "the tag wikigpt.test.word_perplexity is '1.0'"),
        (set_tag("wikigpt.distilled_from", "a/1"), "provenance", "the tag wikigpt.distilled_from is 'a/1'"),
        (change_a_file("signature", "model.sig"), "signature", "not those that the version was registered with"),
        (set_tag(registry.SIGNED_BY, "0" * 64), "signature", "the tag wikigpt.signed_by names another key"),
        (set_tag(registry.LICENCE, "MIT"), "provenance", "the tag wikigpt.licence is 'MIT'"),
        (add_a_file("signature", "config.json"), "signature", "config.json is among the signature files"),
        (set_tag(registry.SIGNATURE, "0" * 64), "signature", "not those that the version was registered with"),
    ],
)
def test_every_change_is_named(
    evidence: Evidence, key: PublicKey, change: Callable[[Evidence], Evidence], name: str, sentence: str
) -> None:
    assert failed(checks_of(evidence, key)) == {}
    found = failed(checks_of(change(evidence), key))
    assert sentence in found[name], found


def test_every_tag_is_signed_but_those_that_say_what_became_of_a_version(evidence: Evidence) -> None:
    became = {registry.VERDICT, registry.REASON, registry.REGISTERED, registry.SIGNATURE, registry.SIGNED_BY}
    assert evidence.tags.keys() - signed_tags(evidence.tags).keys() - became == {APPROVAL}


def test_tags_that_say_what_became_of_a_version_may_change(evidence: Evidence, key: PublicKey) -> None:
    changed = {registry.VERDICT: "keep", registry.CHAMPION_BEFORE: "7", "wikigpt.promoted_by": "ada", "mine": "x"}
    assert failed(checks_of(replace(evidence, tags={**evidence.tags, **changed}), key)) == {}


@pytest.mark.parametrize(
    ("name", "check"), [("provenance.sig", "signature"), ("model.sig", "files")], ids=["provenance", "model"]
)
def test_whoever_may_change_artifacts_and_tags_cannot_change_what_was_signed(
    evidence: Evidence, key: PublicKey, name: str, check: str
) -> None:
    path = evidence.signature / name
    bundle = json.loads(path.read_text())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    digest = json.loads(payload)["subject"][0]["digest"]["sha256"]
    changed = payload.replace(digest.encode(), ("0" * 64).encode())
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(changed).decode()
    path.write_text(json.dumps(bundle))
    forged = replace(evidence, tags={**evidence.tags, registry.SIGNATURE: signature_digest(evidence.signature)})
    found = failed(checks_of(forged, key))
    assert changed != payload and "InvalidSignature" in found[check], found


def test_a_signature_by_another_key(_signed: Path, evidence: Evidence, key: PublicKey) -> None:
    other = read_public_key(_signed / "other.public.pem")
    (check,) = checks_of(evidence, other)
    assert check.seen.startswith(f"another key signed it, {key.fingerprint[:16]}…, and not {other.fingerprint[:16]}…")


def flips(evidence: Evidence, key: PublicKey, count: int) -> Iterator[tuple[str, list[Check]]]:
    """Flips single bits, each undone before the next, spread evenly over the parts of a version; yields the checks."""
    chance = random.Random(0)
    model = sorted(path for path in evidence.model.rglob("*") if path.is_file())
    parts: dict[str, list[Path]] = {
        "weights": [path for path in model if path.suffix == ".safetensors"],
        "tokenizer": [path for path in model if path.name.startswith("tokenizer")],
        "config": [path for path in model if path.name.endswith("config.json")],
        "evaluation": sorted(evidence.evaluation.iterdir()),
        "signature": [evidence.signature / "model.sig"],
        "provenance": [evidence.signature / "provenance.sig"],
        "card": [],
        "completions": [],
    }
    for number in range(count):
        part = list(parts)[number % len(parts)]
        if part == "card":
            card = flipped(evidence.card.encode(), chance).decode(errors="replace")
            yield part, checks_of(replace(evidence, card=card), key)
            continue
        if part == "completions":
            yield part, checks_of(replace(evidence, completions=flipped(evidence.completions, chance)), key)
            continue
        path = chance.choice(parts[part])
        before = path.read_bytes()
        path.write_bytes(flipped(before, chance))
        yield part, checks_of(evidence, key)
        path.write_bytes(before)


def flipped(content: bytes, chance: random.Random) -> bytes:
    """The content with one bit changed."""
    place, changed = chance.randrange(8 * len(content)), bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@pytest.mark.parametrize("count", [80, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_refused(evidence: Evidence, key: PublicKey, count: int) -> None:
    refused = [part for part, checks in flips(evidence, key, count) if failed(checks)]
    assert len(refused) == count
    assert len(set(refused)) == 8
    assert failed(checks_of(evidence, key)) == {}, "what was flipped was flipped back"


def test_a_version_that_does_not_verify_is_not_used(client: MlflowClient, tmp_path: Path) -> None:
    one, two = resolve(client, "1"), resolve(client, "2")
    for use in (
        lambda: require_verified(client, two),
        lambda: export(client, two, tmp_path / "out"),
        lambda: load_writer(client, two),
        lambda: promote(client, "2", reason="nice"),
        lambda: score_ensemble(client, ["1", "2"]),
    ):
        with pytest.raises(Failure, match=r"Version 2 of wikigpt-sample is not signed \(models:/wikigpt-sample/2\)"):
            use()
    assert list(tmp_path.glob("out*")) == []
    client.set_model_version_tag(NAME, "1", registry.COMMIT, "bad")
    with pytest.raises(Failure, match=r"Version 1 of wikigpt-sample does not verify: the tag wikigpt\.commit is 'bad'"):
        load_writer(client, resolve(client, "1"))
    assert one.tags[registry.COMMIT] == "c0ffee"


def test_no_training_starts_from_a_version_that_does_not_verify(client: MlflowClient) -> None:
    def start_from(version: str) -> str:
        settings = {"train": {"pretrained": f"models:/{NAME}/{version}"}, "tokenize": {}, "register": {}}
        pin_versions(step := Step("download", "run-9", settings))
        return step.settings["train"]["pretrained"]

    assert start_from("1").startswith(f"models:/{NAME}/1#")
    weights = client.get_model_version(NAME, "2").tags[registry.WEIGHTS_DIGEST]
    for version in ("2", f"2#{weights}"):
        with pytest.raises(Failure, match="Version 2 of wikigpt-sample is not signed"):
            start_from(version)


def test_without_a_public_key_nothing_is_checked(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PUBLIC_KEY)
    client.set_model_version_tag(NAME, "1", registry.COMMIT, "bad")
    load_writer(client, resolve(client, "1"))
    export(client, resolve(client, "2"), tmp_path / "out")
    with pytest.raises(Failure, match="No public key is named") as raised:
        verify(client, resolve(client, "1"))
    assert raised.value.exit_code == ExitCode.USAGE


def test_an_export_carries_its_signature_for_other_programs(
    _signed: Path, client: MlflowClient, tmp_path: Path
) -> None:
    from model_signing.verifying import Config

    folder = export(client, resolve(client, "1"), tmp_path / "out")
    assert {"model.sig", "provenance.sig", "README.md"} <= {path.name for path in folder.iterdir()}
    Config().use_elliptic_key_verifier(public_key=_signed / "key.public.pem").verify(folder, folder / "model.sig")
    require_verified(client, resolve(client, "1"), folder)


def test_a_file_that_was_put_beside_the_signature_is_never_exported(client: MlflowClient, tmp_path: Path) -> None:
    version = resolve(client, "1")
    artifacts = Path(client.get_run(registry.artifacts_run(version)).info.artifact_uri.removeprefix("file://"))
    planted = artifacts / signature_folder(version.tags[registry.SIGNATURE]) / "config.json"
    planted.write_text("{}")
    try:
        with pytest.raises(Failure, match=r"config\.json is among the signature files and does not belong there"):
            export(client, version, tmp_path / "out")
        with pytest.MonkeyPatch.context() as unset:
            unset.delenv(PUBLIC_KEY)
            assert (export(client, version, tmp_path / "out") / "config.json").read_text() != "{}"
    finally:
        planted.unlink()


@pytest.mark.parametrize("missing", ["signature", "evaluation"])
def test_artifacts_that_are_missing(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find = registry.artifacts_of
    monkeypatch.setattr(registry, "artifacts_of", lambda *asked: None if asked[2].startswith(missing) else find(*asked))
    with pytest.raises(Failure, match=f"The {missing} of version 1 of wikigpt-sample is missing among the artifacts"):
        require_verified(client, resolve(client, "1"))


def test_an_mlflow_that_does_not_answer_is_no_missing_artifact(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the gate would record for ever that it could not compare."""
    from mlflow.exceptions import MlflowException

    def away(*_: object) -> None:
        raise MlflowException("503")

    monkeypatch.setattr(registry, "artifacts_of", lambda *_: None)
    monkeypatch.setattr(MlflowClient, "list_artifacts", away)
    with pytest.raises(MlflowException, match="503"):
        require_verified(client, resolve(client, "1"))


def test_a_version_is_signed_before_it_becomes_champion(
    client: MlflowClient, _signed: Path, hugging_face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows the alias would refuse it for good."""
    monkeypatch.setenv(SIGNING_KEY, str(_signed / "key.pem"))
    move = MlflowClient.set_registered_model_alias

    def checked(self: MlflowClient, name: str, alias: str, version: str) -> None:
        require_verified(self, self.get_model_version(name, version))
        move(self, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", checked)
    better = make_folders(tmp_path / "c", hugging_face_folder, reuse_key="3" * 32, nll_per_word=4.0)
    number = register(make_step("run-3"), another_model(better, tmp_path / "d", "3" * 32, 4.0))
    champion = registry.version_with_alias(client, NAME, registry.CHAMPION)
    assert champion is not None and str(champion.version) == number


def test_a_key_that_does_not_belong_to_the_public_one_ends_the_run_before_it_trains(
    _signed: Path, client: MlflowClient
) -> None:
    with pytest.raises(Failure, match="does not belong to the public key") as raised:
        check_signing_key("optional", str(_signed / "other.pem"))
    assert raised.value.exit_code == ExitCode.USAGE
    assert check_signing_key("optional", str(_signed / "key.pem")) is not None


def test_neither_the_key_nor_its_path_is_recorded(_signed: Path) -> None:
    body = b"".join((_signed / "key.pem").read_bytes().splitlines()[1:-1])
    files = [path for path in _signed.rglob("*") if path.is_file() and path.suffix != ".pem"]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        assert body[:32] not in content and b"PRIVATE KEY" not in content, path
        assert b"key.pem" not in content, path


def test_a_copy_in_another_registered_model_verifies(client: MlflowClient) -> None:
    promote(client, "1", reason="for everybody", to="wikigpt-prod")
    assert verify(client, resolve(client, "1", "wikigpt-prod")).verified


def test_a_copy_that_does_not_verify_is_not_promoted_for_its_original(client: MlflowClient) -> None:
    promote(client, "1", reason="for everybody", to="wikigpt-prod")
    client.delete_registered_model_alias("wikigpt-prod", registry.CHAMPION)
    client.set_model_version_tag("wikigpt-prod", "1", registry.COMMIT, "bad")
    with pytest.raises(Failure, match="Version 1 of wikigpt-prod does not verify"):
        promote(client, f"models:/{NAME}/1", reason="for everybody", to="wikigpt-prod")
    assert registry.version_with_alias(client, "wikigpt-prod", registry.CHAMPION) is None


def test_the_commands(_signed: Path, client: MlflowClient, command: Command, tmp_path: Path) -> None:
    home = ("--home", tmp_path)
    code, out, _ = command("verify", f"models:/{NAME}/1", *home)
    assert (code, [line.split()[:2] for line in out.splitlines()]) == (0, [["ok", f"{name}:"] for name in CHECKS])
    code, out, _ = command("verify", "1", "--json", *home)
    assert (code, json.loads(out)["verified"], len(json.loads(out)["checks"])) == (0, True, len(CHECKS))
    code, out, _ = command("verify", "1", "--public-key", _signed / "other.public.pem", *home)
    assert (code, out.split()[0]) == (1, "FAILED")
    code, _, err = command("verify", "2", *home)
    assert (code, "is not signed" in err, "wikigpt sign" in err) == (1, True, True)
    code, out, _ = command("sign", "2", "--key", _signed / "key.pem", *home)
    assert (code, out.startswith("Version 2 of wikigpt-sample is signed by the key ")) == (0, True)
    assert command("verify", "2", *home)[0] == 0
    code, _, err = command("sign", "2", "--key", _signed / "other.pem", *home)
    assert (code, "is replaced" in err) == (0, True)
    assert command("verify", "2", "--public-key", _signed / "other.public.pem", *home)[0] == 0
    assert command("verify", "2", *home)[0] == 1
    code, out, _ = command("models", "--json", *home)
    assert [row["signed_by"] is not None for row in json.loads(out)] == [True, True]
    assert command("sign", "2", "--key", "pkcs11:object=o?pin-value=Xpin", *home)[0] == ExitCode.USAGE


def test_a_version_that_is_not_finished_is_not_signed(_signed: Path, client: MlflowClient) -> None:
    from components.shared.signing.keys import open_signing_key

    client.delete_model_version_tag(NAME, "2", registry.REGISTERED)
    with pytest.raises(Failure, match="Version 2 of wikigpt-sample is not completely registered"):
        sign(client, resolve(client, "2"), open_signing_key(str(_signed / "key.pem")))


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "damaged"])
def test_the_gate_compares_with_no_champion_that_does_not_verify(
    _signed: Path, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hugging_face_folder: Path,
    signed: bool,
) -> None:  # fmt: skip
    if not signed:
        client.set_model_version_tag(NAME, "1", registry.COMMIT, "bad")
    monkeypatch.setenv(SIGNING_KEY, str(_signed / "key.pem"))
    first = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32, nll_per_word=5.0)
    better = another_model(first, tmp_path / "c", "3" * 32, 4.0)
    assert register(make_step("run-3"), better) == "3"
    tags = client.get_model_version(NAME, "3").tags
    champion = registry.version_with_alias(client, NAME, registry.CHAMPION)
    assert champion is not None
    if signed:
        assert (tags[registry.VERDICT], champion.version) == ("promote", 3)
    else:
        assert (tags[registry.VERDICT], champion.version) == ("incomparable", 1)
        assert tags[registry.REASON].startswith(
            "It was not compared: Version 1 of wikigpt-sample does not verify: the tag wikigpt.commit is 'bad'"
        )
    assert verify(client, resolve(client, "3")).verified


@pytest.mark.slow
@pytest.mark.parametrize("last", ["signature/", registry.SIGNED_BY, registry.SIGNATURE, registry.REGISTERED])
def test_a_step_that_ended_after_a_write_of_the_signature_is_repeated(
    hugging_face_folder: Path, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    class Killed(BaseException):
        pass

    def ending(write: Callable[..., object]) -> Callable[..., object]:
        def and_die(self: MlflowClient, *given: object) -> None:
            write(self, *given)
            if any(str(each).startswith(last) for each in given):
                raise Killed

        return and_die

    private, public = make_keys(tmp_path)
    monkeypatch.setenv(SIGNING_KEY, str(private))
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    folders = make_folders(tmp_path / "folders", hugging_face_folder, reuse_key="1" * 32)
    with monkeypatch.context() as patch:
        for name in ("log_artifacts", "set_model_version_tag"):
            patch.setattr(MlflowClient, name, ending(getattr(MlflowClient, name)))
        with pytest.raises(Killed):
            register(make_step("run-1"), folders)
    assert register(make_step("run-1"), folders) == "1"
    client = MlflowClient(tracking_uri)
    assert verify(client, resolve(client, "1"), read_public_key(public)).verified
