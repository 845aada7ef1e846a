"""Checks and names a fetched corpus, and writes it to the folder that the next steps read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from components.download.address import identity_of
from components.download.corpora import (
    ATTRIBUTION,
    KNOWN,
    LICENCE,
    MODEL,
    RESERVED,
    SAMPLE,
    PublishedCorpus,
    dataset_digest,
    find_published,
)
from components.download.encoding import check_text, has_byte_order_mark, without_byte_order_marks
from components.download.naming import name_from, with_digest
from components.download.settings import DownloadSettings
from components.download.splits import has_released_names
from components.shared.base.events import emit
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.redact import redact
from components.shared.storage.files import FileFact, disk_failure, file_fact, write_atomically
from components.shared.storage.manifest import Manifest, write_manifest
from components.shared.text.articles import SPLIT_FILE, read_pieces

# Maps a model name and a dataset digest to the address of another text whose models have that name, if any.
NameOwner = Callable[[str, str], str | None]


def no_other_owner(model_name: str, dataset_digest: str) -> str | None:
    """Replaces the registry if none is available."""
    return None


@dataclass(frozen=True)
class CorpusFacts:
    """The metadata of a corpus for later steps.

    Attributes:
        name: the name of the corpus.
        model_name: the name of the registered model.
        dataset_digest: the digest of the splits, see `components.download.corpora.dataset_digest`.
        licence: the licence of the text.
        attribution: the authors that the licence requires to be named.
        source: the address of the corpus, without secrets.
        published: whether the bytes are those of a published release.
        changes: descriptions of the changes that were made to the given text.
    """

    name: str
    model_name: str
    dataset_digest: str
    licence: str
    attribution: str
    source: str
    published: bool
    changes: list[str] = field(default_factory=list)


def strip_byte_order_marks(files: dict[str, Path]) -> list[str]:
    """Removes byte-order marks from files of the run, and describes each change."""
    changes = []
    for split, path in files.items():
        if any(has_byte_order_mark(piece) for piece in read_pieces(path)):
            write_atomically(path, without_byte_order_marks(path.read_bytes()))
            changes.append(f"a byte-order mark was removed from {split}")
    return changes


def check(files: dict[str, Path], source: str, wanted: str | None = None) -> CorpusFacts | None:
    """Checks the splits of a corpus.

    Args:
        files: the file of each split.
        source: the address of the corpus, for messages.
        wanted: the name of the required published corpus, if any.

    Returns:
        The metadata of a published corpus, or None for another text.

    Raises:
        Failure: a split is not text, or differs from the release that its name or `wanted` requires.
    """
    for split, path in files.items():
        check_text(split, path, f"{redact(source)}: {path.name}")
    facts = {split: file_fact(path) for split, path in files.items()}
    known = find_published(facts)
    if wanted and (known is None or known.name != wanted):
        raise _mismatch(facts, files, KNOWN[wanted], source, f"The bytes are not those of {wanted}")
    if known is None and has_released_names(files):
        ending = files["train"].suffix
        nearest = max(KNOWN.values(), key=lambda other: (_equal_splits(other, facts), other.released_as == ending))
        raise _mismatch(facts, files, nearest, source, "The files have WikiText's names but other bytes")
    return published_facts(known, source) if known else None


def published_facts(known: PublishedCorpus, source: str) -> CorpusFacts:
    """Returns the metadata of a published corpus."""
    return CorpusFacts(
        name=known.name,
        model_name=known.model_name,
        dataset_digest=known.dataset_digest,
        licence=LICENCE,
        attribution=ATTRIBUTION,
        source=redact(source),
        published=True,
    )


def own_facts(files: dict[str, Path], settings: DownloadSettings, owner: NameOwner = no_other_owner) -> CorpusFacts:
    """Returns the metadata of a user's own text.

    Args:
        files: the file of each split.
        settings: the settings of the step; a name in them is used unchanged.
        owner: a function that finds another text whose models have the name that the address gives.

    Raises:
        Failure: the name is reserved for a published corpus or the sample.
    """
    name = settings.name or name_from(settings.corpus)
    if name in RESERVED:
        raise Failure(
            f"The name {name!r} is reserved for a corpus of the project, and this is another text",
            where=redact(settings.corpus),
            remedy="name the text by --set download.name=NAME",
            exit_code=ExitCode.USAGE,
        )
    digest = dataset_digest({split: file_fact(path) for split, path in files.items()})
    if settings.name is None and (other := owner(f"{MODEL}-{name}", digest)):
        taken, name = name, with_digest(name, identity_of(settings.corpus))
        emit(
            "note",
            text=f"The models of {other} are called {MODEL}-{taken}, so those of this text are called {MODEL}-{name}."
            f" Set download.name={taken} to compare them with those, or to a name of your own",
        )
    return CorpusFacts(
        name=name,
        model_name=f"{MODEL}-{name}",
        dataset_digest=digest,
        licence="not stated",
        attribution="not stated",
        source=redact(settings.corpus),
        published=False,
    )


def sample_facts(files: dict[str, Path], licence: str, attribution: str) -> CorpusFacts:
    """Returns the metadata of the sample corpus."""
    return CorpusFacts(
        name=SAMPLE,
        model_name=f"{MODEL}-{SAMPLE}",
        dataset_digest=dataset_digest({split: file_fact(path) for split, path in files.items()}),
        licence=licence,
        attribution=attribution,
        source="made by the project",
        published=False,
    )


def write_corpus(files: dict[str, Path], facts: CorpusFacts, folder: Path) -> Manifest:
    """Moves checked files to the folder that the next steps read, and writes the manifest last.

    Raises:
        Failure: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, path in files.items():
            path.replace(folder / SPLIT_FILE[split])
    except OSError as error:
        raise disk_failure(error, folder) from error
    return write_manifest(folder, "corpus", asdict(facts))


def _equal_splits(known: PublishedCorpus, facts: dict[str, FileFact]) -> int:
    return sum(known.files[split] == fact for split, fact in facts.items())


def _mismatch(
    facts: dict[str, FileFact], files: dict[str, Path], release: PublishedCorpus, source: str, what: str
) -> Failure:
    split = next(split for split in facts if facts[split] != release.files[split])
    seen, wanted = facts[split], release.files[split]
    return Failure(
        f"{what}: {files[split].name} has {seen.size:,} bytes and sha256 {seen.sha256[:12]}…,"
        f" {release.name} has {wanted.size:,} and {wanted.sha256[:12]}…",
        where=redact(source),
        remedy="fetch the release again, or name the files of your own text train.txt, validation.txt and test.txt",
    )
