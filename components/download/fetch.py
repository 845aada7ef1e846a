"""Fetches the corpus that the settings name, and writes three checked files to a folder of the run."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from components.download import hub, sample
from components.download.address import is_archive, is_data_set
from components.download.archive import unpack
from components.download.corpora import KNOWN, SAMPLE
from components.download.corpus import (
    CorpusFacts,
    NameOwner,
    check,
    no_other_owner,
    own_facts,
    sample_facts,
    strip_byte_order_marks,
    write_corpus,
)
from components.download.s3 import download_prefix
from components.download.settings import DownloadSettings
from components.download.splits import find_splits
from components.download.tables import text_files
from components.download.web import download
from components.shared.base.address import is_bucket
from components.shared.base.events import emit
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.redact import redact
from components.shared.storage.files import disk_failure, file_fact, write_atomically
from components.shared.storage.manifest import Manifest
from components.shared.storage.store import Store
from components.shared.text.articles import SPLIT_FILE, SPLITS

_CHUNK = 1 << 20

Fetched = tuple[dict[str, Path], CorpusFacts]


def fetch_corpus(settings: DownloadSettings, folder: Path, store: Store, owner: NameOwner = no_other_owner) -> Manifest:
    """Fetches the corpus, from the store if its source cannot have changed, and publishes it there.

    The folder is written only after all checks.

    Args:
        settings: the settings of the step.
        folder: the output folder.
        store: the store, which is read before the source.
        owner: see `own_facts`.

    Raises:
        Failure: the corpus cannot be fetched, or is not the expected one.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=".corpus-", dir=folder.parent)
    except OSError as error:
        raise disk_failure(error, folder) from error
    with work as name:
        files, facts = _fetch(settings, Path(name), store, owner)
        manifest = write_corpus(files, facts, folder)
    store.publish(folder, "corpus", facts.dataset_digest)
    if settings.sha256:
        store.put_record(_pointer(settings.sha256), {"dataset_digest": facts.dataset_digest})
    return manifest


def _fetch(settings: DownloadSettings, work: Path, store: Store, owner: NameOwner) -> Fetched:
    if settings.corpus == SAMPLE:
        return _sample(work)
    if settings.corpus in KNOWN:
        return _release(settings, work, store)
    files, source = _own(settings, work, store)
    return files, read_own(files, settings, owner, source)


def read_own(
    files: dict[str, Path], settings: DownloadSettings, owner: NameOwner = no_other_owner, source: str = ""
) -> CorpusFacts:
    """Removes byte-order marks from the files that the settings name, checks them and returns their metadata.

    Args:
        files: the text file of each split.
        settings: the settings of the step.
        owner: see `own_facts`.
        source: a more exact address than that in the settings, which is recorded instead.

    Raises:
        Failure: see `check` and `own_facts`.
    """
    changes = strip_byte_order_marks(files)
    facts = check(files, settings.corpus) or own_facts(files, settings, owner)
    for change in changes:
        emit("note", text=f"{change[0].upper()}{change[1:]}: it is not part of the text")
    return replace(facts, changes=changes, source=redact(source) if source else facts.source)


def copy_folder(settings: DownloadSettings, work: Path) -> dict[str, Path]:
    """Copies the splits of the local folder that the settings name to a folder of the run, as text.

    Raises:
        Failure: see `find_splits` and `text_files`; or a file cannot be read.
    """
    found = find_splits(Path(settings.corpus).expanduser(), settings.corpus)
    files = {split: _copy(path, work / path.name) for split, path in found.items()}
    return text_files(files, settings.text_column, settings.corpus)


def _release(settings: DownloadSettings, work: Path, store: Store) -> Fetched:
    name = settings.corpus
    digest = KNOWN[name].dataset_digest
    if stored := _stored(digest, work, store):
        return stored, _not_none(check(stored, store.address("corpus", digest), wanted=name))
    try:
        files = hub.download_release(name, work)
    except Failure as failure:
        if failure.exit_code != ExitCode.UNREACHABLE or not settings.fall_back_to_sample:
            raise
        emit("note", text=f"{failure.what}. The run uses the project's small sample corpus instead of {name}")
        return _sample(work)
    return files, _not_none(check(files, hub.address(name), wanted=name))


def _own(settings: DownloadSettings, work: Path, store: Store) -> tuple[dict[str, Path], str]:
    """Returns the text files of the splits, and their address if it is more exact than that in the settings."""
    if is_data_set(settings.corpus):
        return hub.download_data_set(settings.corpus, settings.text_column, work)
    if is_archive(settings.corpus):
        return _archived(settings, work, store), ""
    if is_bucket(settings.corpus):
        found = find_splits(download_prefix(settings.corpus, work), settings.corpus)
        return text_files(found, settings.text_column, settings.corpus), ""
    return copy_folder(settings, work), ""


def _archived(settings: DownloadSettings, work: Path, store: Store) -> dict[str, Path]:
    where = redact(settings.corpus)
    if settings.sha256:
        pointer = store.claimed(_pointer(settings.sha256))
        if pointer and (stored := _stored(pointer["dataset_digest"], work, store)):
            return stored
    elif settings.corpus.startswith("http://"):
        emit("note", text=f"What {where} sends is not authenticated: use https://, or set download.sha256")
    archive = work / "archive"
    download(settings.corpus, archive)
    if settings.sha256 and (seen := file_fact(archive).sha256) != settings.sha256:
        raise Failure(
            f"The archive has sha256 {seen}, expected {settings.sha256}",
            where=where,
            remedy="find out why it changed; if you trust it, set download.sha256 to the new digest",
        )
    folder = work / "unpacked"
    folder.mkdir()
    return text_files(find_splits(unpack(archive, folder, where), where), settings.text_column, where)


def _sample(work: Path) -> Fetched:
    files = {split: work / SPLIT_FILE[split] for split in SPLITS}
    for split, text in sample.sample_corpus().items():
        write_atomically(files[split], text)
    return files, sample_facts(files, sample.LICENCE, sample.ATTRIBUTION)


def _stored(dataset_digest: str, work: Path, store: Store) -> dict[str, Path] | None:
    if store.fetch("corpus", dataset_digest, work) is None:
        return None
    emit("reused", step="download", what="corpus", dataset_digest=dataset_digest)
    return {split: work / SPLIT_FILE[split] for split in SPLITS}


def _not_none(facts: CorpusFacts | None) -> CorpusFacts:
    assert facts is not None, "a corpus that was checked against a release is that release"
    return facts


def _pointer(archive_sha256: str) -> str:
    return f"archives/{archive_sha256}"


def _copy(source: Path, target: Path) -> Path:
    try:
        stream = open(source, "rb")  # noqa: SIM115 -- only an error of opening is one of permissions
    except OSError as error:
        raise Failure(
            f"The corpus cannot be read: {error.strerror}", where=str(source), remedy="fix its permissions"
        ) from error
    with stream:
        write_atomically(target, lambda copy: shutil.copyfileobj(stream, copy, _CHUNK))
    return target
