"""What a run takes from elsewhere, brought into the store once: a cluster then needs no Hub and no folder of ours."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from components.download.corpora import KNOWN, SAMPLE
from components.download.fetch import fetch_corpus
from components.shared.base.address import is_bucket, is_folder
from components.shared.base.redact import redact
from components.shared.model.pretrained import KIND, Part, from_hub, mirrored_name, require_files
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import digest_of, write_manifest
from components.shared.storage.store import Store
from components.shared.text.articles import SPLIT_FILE
from components.tokenize.pretrained import pinned
from components.tokenize.settings import OWN
from pipelines.config.settings import RunSettings


@dataclass(frozen=True)
class Mirrored:
    """Something that stands in the store now.

    Attributes:
        what: the setting that names it, and its value.
        address: where it stands.
        settings: what to set so that a run takes it from there; none where runs with this store do so by themselves.
        size: bytes.
    """

    what: str
    address: str
    settings: tuple[str, ...]
    size: int


def mirror(store: Store, settings: RunSettings) -> list[Mirrored]:
    """Brings the corpus, the tokenizer and the pretrained weights that settings name into a store.

    A published corpus and what is pinned on the Hub are found there by every later run with this store. A text, a
    tokenizer or weights of this machine get an address under the store, which has to be set.

    Raises:
        Failure: one of them cannot be had, or the store cannot be used.
    """
    return [*_corpus(store, settings), *_tokenizer(store, settings), *_weights(store, settings)]


def _corpus(store: Store, settings: RunSettings) -> Iterator[Mirrored]:
    asked = settings.download.corpus
    if asked == SAMPLE or is_bucket(asked):
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "corpus"
        manifest = fetch_corpus(replace(settings.download, fall_back_to_sample=False), folder, store)
        digest, size = manifest.metadata["dataset_digest"], sum(fact.size for fact in manifest.files.values())
        if manifest.metadata["published"] or settings.download.sha256:
            by_itself = asked in KNOWN or settings.download.sha256
            by_name = () if by_itself else (f"download.corpus={manifest.metadata['name']}",)
            yield Mirrored(f"download.corpus={redact(asked)}", store.address("corpus", digest), by_name, size)
            return
        prefix = f"corpora/{digest[:16]}"
        address = store.upload_files(prefix, [folder / name for name in SPLIT_FILE.values()])
    to_set = (f"download.corpus={address}", f"download.name={manifest.metadata['name']}")
    yield Mirrored(f"download.corpus={redact(asked)}", address, to_set, size)


def _tokenizer(store: Store, settings: RunSettings) -> Iterator[Mirrored]:
    name, revision = settings.tokenize.tokenizer, settings.tokenize.revision
    if name != OWN:
        yield from _pretrained(store, "tokenizer", "tokenize.tokenizer", name, pinned(name, revision))


def _weights(store: Store, settings: RunSettings) -> Iterator[Mirrored]:
    name, revision = settings.train.pretrained, settings.train.revision
    if name:
        yield from _pretrained(store, "weights", "train.pretrained", name, revision or "")


def _pretrained(store: Store, part: Part, key: str, name: str, revision: str) -> Iterator[Mirrored]:
    if is_bucket(name):
        return
    with tempfile.TemporaryDirectory() as work:
        if is_folder(name):
            files = require_files(part, Path(name).expanduser(), key)
            digest = digest_of({path.name: file_fact(path).sha256 for path in files})
            address = store.upload_files(f"{KIND}/{part}-{digest[:16]}", files)
            yield Mirrored(f"{key}={name}", address, (f"{key}={address}",), sum(path.stat().st_size for path in files))
            return
        stored = mirrored_name(part, name, revision)
        if (manifest := store.find(KIND, stored)) is None:
            folder = from_hub(part, name, revision, Path(work) / "hub")
            shutil.rmtree(folder / ".cache", ignore_errors=True)
            require_files(part, folder, key)
            write_manifest(folder, KIND, {"repository": name, "revision": revision})
            manifest = store.publish(folder, KIND, stored)
    size = sum(fact.size for fact in manifest.files.values())
    yield Mirrored(f"{key}={name}", store.address(KIND, stored), (), size)
