"""The findings of `wikigpt check`: whether a run could start."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.download.corpora import KNOWN, SAMPLE
from components.download.fetch import copy_folder, read_own
from components.download.settings import DownloadSettings
from components.shared.base.address import is_bucket, is_folder, is_registered
from components.shared.base.events import notes_on_stderr
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.model_address import ModelAddress
from components.shared.base.redact import redact
from components.shared.model.pretrained import KIND, Part, cached_folder, mirrored_name, require_files
from components.shared.model.registered_version import find_version
from components.shared.signing.keys import SIGNING_KEY
from components.shared.signing.reference import check_signing_key
from components.shared.storage.store import open_store
from components.shared.tracking import registry
from components.tokenize.pretrained import pinned
from components.tokenize.settings import OWN
from pipelines.config.settings import RunSettings, check_window
from pipelines.local import doctor
from pipelines.local.doctor import Finding
from pipelines.local.home import Home, tracking_uri
from pipelines.local.numerics import resolve_numerics


def check_run(settings: RunSettings, home: Home, store: str) -> list[Finding]:
    """Examines the corpus and the environment that a run needs. Its settings were validated when they were read."""
    here = resolve_numerics(settings, home)
    precision = f"{here.precision} ({here.reason})" if here.reason else here.precision
    compiled = "on" if settings.train.compile else "off"
    return [
        Finding("Settings", True, f"profile {settings.profile}: {settings.description}"),
        Finding("Numerics", True, f"{here.device}, {precision}, {here.threads} threads, compile {compiled}"),
        corpus(settings),
        *pretrained(settings, store, home),
        *window(settings),
        *signing(settings),
        doctor.gpu(needed=True) if "cuda" in (here.device, settings.evaluate.device) else doctor.cores(),
        doctor.compiler(needed=settings.train.compile),
        doctor.disk(home.root),
        doctor.store(store),
        doctor.tracking(tracking_uri(home)),
    ]


def corpus(settings: RunSettings) -> Finding:
    """Whether the corpus is available. Only the run itself fetches a remote corpus."""
    name = settings.download.corpus
    if name == SAMPLE:
        return Finding("Corpus", True, "sample, part of the project")
    if name in KNOWN:
        hub = doctor.hub()
        fallback = settings.download.fall_back_to_sample
        seen = f"{name} from the Hub" if hub.ok else f"{name}: {hub.seen}"
        if not hub.ok and fallback:
            return Finding("Corpus", True, f"{seen}; the run would fall back to sample")
        remedy = "; name a folder by --corpus or WIKIGPT_CORPUS"
        return Finding("Corpus", hub.ok, seen if hub.ok else seen + remedy, "the run", exit_code=ExitCode.UNREACHABLE)
    if "://" in name:
        return Finding("Corpus", True, f"{redact(name)}, fetched by the run")
    return _folder(settings.download)


def pretrained(settings: RunSettings, store: str, home: Home) -> Iterator[Finding]:
    """Whether the pretrained tokenizer and weights in the settings are available."""
    tokenize, train = settings.tokenize, settings.train
    if tokenize.tokenizer != OWN:
        commit = pinned(tokenize.tokenizer, tokenize.revision)
        yield _pretrained("tokenizer", "tokenize.tokenizer", tokenize.tokenizer, commit, store, home)
    if train.pretrained:
        yield _pretrained("weights", "train.pretrained", train.pretrained, train.revision or "", store, home)
    for teacher in train.distill:
        yield _pretrained("weights", "train.distill", teacher, "", store, home)


def window(settings: RunSettings) -> Iterator[Finding]:
    """Whether the window of the evaluation fits the context of the pretrained model, if its config is on this machine.

    The step `evaluate` checks the same for every model, but only after the training.
    """
    train = settings.train
    if train.pretrained is None or is_bucket(train.pretrained) or is_registered(train.pretrained):
        return
    own = Path(train.pretrained).expanduser() if is_folder(train.pretrained) else None
    folder = own or cached_folder("weights", train.pretrained, train.revision or "")
    if folder is None or not (config := folder / "config.json").is_file():
        return

    def look() -> str:
        values = json.loads(config.read_text(encoding="utf-8"))
        context = values.get("max_position_embeddings") or values["n_positions"]
        check_window(train, settings.evaluate, context)
        return f"fits the context of {context} tokens"

    yield doctor.probe("Window", look, "the step evaluate")


def signing(settings: RunSettings) -> Iterator[Finding]:
    """Whether the key by which the version will be signed can be used, if it is named or required."""
    register = settings.register

    def look() -> str:
        fingerprint = check_signing_key(register.signing, register.signing_key)
        return f"by the key {fingerprint[:16]}…" if fingerprint else "by a key in a device"

    named = register.signing_key or os.environ.get(SIGNING_KEY)
    if register.signing == "required" or (register.signing == "optional" and named):
        yield doctor.probe("Signing", look, "the run")


def _pretrained(part: Part, setting: str, address: str, revision: str, store: str, home: Home) -> Finding:
    def look() -> str:
        if is_bucket(address):
            return f"{address}, fetched by the run"
        if is_registered(address):
            with registry.read_registry(tracking_uri(home)) as reader:
                version = find_version(reader, ModelAddress.parse(address), setting)
            return f"version {version.version} of {version.name}"
        if is_folder(address):
            require_files(part, Path(address), setting)
            return address
        if open_store(store).find(KIND, mirrored_name(part, address, revision)):
            return f"{address}, from the store"
        if cached_folder(part, address, revision):
            return f"{address}, from the cache of the Hub"
        if not (hub := doctor.hub()).ok:
            raise Failure(
                f"{address} is neither in the store nor in the Hub's cache",
                where=hub.seen,
                remedy="copy it to the store by `wikigpt mirror` on a machine that can reach the Hub, or name a folder",
                exit_code=ExitCode.UNREACHABLE,
            )
        return f"{address}, from the Hub"

    return doctor.probe(f"Pretrained {part}", look, "the run")


def _folder(settings: DownloadSettings) -> Finding:
    """Reads the text from a copy, as a run does, since the run removes byte-order marks."""

    def read() -> str:
        with tempfile.TemporaryDirectory(prefix="wikigpt-check-") as work, notes_on_stderr():
            files = copy_folder(settings, Path(work))
            read_own(files, settings)
        return f"{settings.corpus}: {', '.join(path.name for path in files.values())}"

    return doctor.probe("Corpus", read, "the run")
