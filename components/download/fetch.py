"""From the setting `corpus` to three checked files in a folder of the run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from components.download import sample
from components.download.corpora import SAMPLE
from components.download.corpus import CorpusFacts, check, own_facts, place, sample_facts
from components.download.settings import DownloadSettings
from components.download.splits import OWN_NAMES, find_splits
from components.shared.articles import SPLITS
from components.shared.manifest import Manifest, disk_failure, write_atomically


def fetch_corpus(settings: DownloadSettings, folder: Path) -> Manifest:
    """Brings the corpus; until all of it is checked the folder stays as it is.

    Raises:
        Failure: the corpus cannot be had, or is not what it should be.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=".corpus-", dir=folder.parent)
    except OSError as error:
        raise disk_failure(error, folder) from error
    with work as name:
        files, facts = _bring(settings, Path(name))
        return place(files, facts, folder)


def _bring(settings: DownloadSettings, work: Path) -> tuple[dict[str, Path], CorpusFacts]:
    if settings.corpus == SAMPLE:
        return _make_sample(work)
    found = find_splits(Path(settings.corpus).expanduser(), settings.corpus)
    files = {split: _copy(path, work / path.name) for split, path in found.items()}
    return files, check(files, settings.corpus) or own_facts(files, settings)


def _make_sample(work: Path) -> tuple[dict[str, Path], CorpusFacts]:
    for split, text in sample.sample_corpus().items():
        write_atomically(work / OWN_NAMES[split], text)
    files = {split: work / OWN_NAMES[split] for split in SPLITS}
    return files, sample_facts(files, sample.LICENCE, sample.ATTRIBUTION)


def _copy(source: Path, target: Path) -> Path:
    with open(source, "rb") as stream:
        write_atomically(target, lambda out: shutil.copyfileobj(stream, out))
    return target
