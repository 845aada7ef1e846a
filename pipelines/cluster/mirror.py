"""Copies what a run downloads, or reads from this machine, into the store for a cluster that reaches neither."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from components.download.corpora import KNOWN, SAMPLE
from components.download.fetch import fetch_corpus
from components.shared.base.address import is_bucket, is_folder, is_registered
from components.shared.base.redact import redact
from components.shared.model.pretrained import KIND, Part, from_hub, mirrored_name, require_files
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import Manifest, digest_of, write_manifest
from components.shared.storage.store import Store
from components.shared.text.articles import SPLIT_FILE
from components.tokenize.pretrained import pinned
from components.tokenize.settings import OWN
from pipelines.config.settings import RunSettings
from pipelines.planned_changes import Change


@dataclass(frozen=True)
class Mirrored:
    """A mirrored object in the store.

    Attributes:
        what: the setting that names it, and its value.
        address: its address in the store.
        settings: the settings with which a run reads it from there; empty if runs with this store do so by default.
        size: its size in bytes.
    """

    what: str
    address: str
    settings: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class MirrorPlan:
    """The objects that a profile needs in the store.

    Attributes:
        changes: the planned changes that copy missing objects. Each adds to `mirrored`.
        mirrored: the objects that the store has.
    """

    changes: list[Change] = field(default_factory=list)
    mirrored: list[Mirrored] = field(default_factory=list)

    def add(self, description: str, copy: Callable[[], Mirrored]) -> None:
        """Adds the change that copies something."""
        self.changes.append(Change(description, lambda: self.mirrored.append(copy())))


def plan_mirror(store: Store, settings: RunSettings) -> MirrorPlan:
    """Lists what is to be copied: corpus, tokenizer and pretrained weights that settings name. It copies nothing.

    Every later run with this store finds a published corpus and what is pinned on the Hub there. A text, a tokenizer or
    weights of this machine get an address under the store, which has to be set. They are compared with the store when
    the change is applied, so a plan always lists them.

    Raises:
        Failure: a folder does not hold what it should, or the store cannot be used.
    """
    plan = MirrorPlan()
    _corpus(plan, store, settings)
    if settings.tokenize.tokenizer != OWN:
        revision = pinned(settings.tokenize.tokenizer, settings.tokenize.revision)
        _pretrained(plan, store, "tokenizer", "tokenize.tokenizer", settings.tokenize.tokenizer, revision)
    if settings.train.pretrained:
        revision = settings.train.revision or ""
        _pretrained(plan, store, "weights", "train.pretrained", settings.train.pretrained, revision)
    return plan


def _corpus(plan: MirrorPlan, store: Store, settings: RunSettings) -> None:
    name = settings.download.corpus
    if name == SAMPLE or is_bucket(name):
        return
    if name in KNOWN and not settings.download.sha256:
        digest = KNOWN[name].dataset_digest
        if manifest := store.find("corpus", digest):
            plan.mirrored.append(
                Mirrored(f"download.corpus={name}", store.address("corpus", digest), (), _size(manifest))
            )
            return
    plan.add(f"copy the corpus {redact(name)} to {store.uri}", partial(_copy_corpus, store, settings))


def _copy_corpus(store: Store, settings: RunSettings) -> Mirrored:
    name = settings.download.corpus
    what = f"download.corpus={redact(name)}"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "corpus"
        manifest = fetch_corpus(replace(settings.download, fall_back_to_sample=False), folder, store)
        digest, size = manifest.metadata["dataset_digest"], _size(manifest)
        if manifest.metadata["published"] or settings.download.sha256:
            by_itself = name in KNOWN or settings.download.sha256
            by_name = () if by_itself else (f"download.corpus={manifest.metadata['name']}",)
            return Mirrored(what, store.address("corpus", digest), by_name, size)
        address = store.upload_files(f"corpora/{digest[:16]}", [folder / file for file in SPLIT_FILE.values()])
    return Mirrored(what, address, (f"download.corpus={address}", f"download.name={manifest.metadata['name']}"), size)


def _pretrained(plan: MirrorPlan, store: Store, part: Part, key: str, name: str, revision: str) -> None:
    if is_bucket(name) or is_registered(name):
        return
    if is_folder(name):
        files = require_files(part, Path(name).expanduser(), key)
        plan.add(f"copy the {part} in {name} to {store.uri}", partial(_copy_folder, store, part, key, name, files))
        return
    stored = mirrored_name(part, name, revision)
    if manifest := store.find(KIND, stored):
        plan.mirrored.append(Mirrored(f"{key}={name}", store.address(KIND, stored), (), _size(manifest)))
        return
    source = f"{name} at {revision} from the Hugging Face Hub" if revision else f"{name} from the Hugging Face Hub"
    plan.add(f"copy the {part} {source} to {store.uri}", partial(_copy_from_hub, store, part, key, name, revision))


def _copy_folder(store: Store, part: Part, key: str, name: str, files: list[Path]) -> Mirrored:
    digest = digest_of({path.name: file_fact(path).sha256 for path in files})
    address = store.upload_files(f"{KIND}/{part}-{digest[:16]}", files)
    return Mirrored(f"{key}={name}", address, (f"{key}={address}",), sum(path.stat().st_size for path in files))


def _copy_from_hub(store: Store, part: Part, key: str, name: str, revision: str) -> Mirrored:
    stored = mirrored_name(part, name, revision)
    with tempfile.TemporaryDirectory() as work:
        folder = from_hub(part, name, revision, Path(work) / "hub")
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        require_files(part, folder, key)
        write_manifest(folder, KIND, {"repository": name, "revision": revision})
        manifest = store.publish(folder, KIND, stored)
    return Mirrored(f"{key}={name}", store.address(KIND, stored), (), _size(manifest))


def _size(manifest: Manifest) -> int:
    return sum(fact.size for fact in manifest.files.values())
