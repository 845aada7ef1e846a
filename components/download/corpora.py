"""The published corpora, with the sizes and digests of their files."""

from __future__ import annotations

from dataclasses import dataclass

from components.shared.storage.files import FileFact
from components.shared.storage.manifest import digest_of
from components.shared.text.articles import SPLITS

MODEL = "wikigpt"
LICENCE = "CC BY-SA 3.0"
ATTRIBUTION = (
    "WikiText-2 (Merity, Xiong, Bradbury, Socher: Pointer Sentinel Mixture Models, 2016),"
    " made of articles by Wikipedia's contributors"
)


@dataclass(frozen=True)
class PublishedCorpus:
    """A published corpus.

    Attributes:
        name: the name of the release, which is also its configuration on the Hub.
        model_name: the name of the registered model for this corpus.
        released_as: the ending of its file names.
        files: the size and the SHA-256 of each released split.
    """

    name: str
    model_name: str
    released_as: str
    files: dict[str, FileFact]

    @property
    def dataset_digest(self) -> str:
        return dataset_digest(self.files)


RAW = PublishedCorpus(
    name="wikitext-2-raw-v1",
    model_name=MODEL,
    released_as=".raw",
    files={
        "train": FileFact(10_940_747, "6707892fa3788b5ab9ed78ab5ff37d9fe825f6011a2ad4fcd6a6d467f0e7da57"),
        "validation": FileFact(1_146_846, "4cd0f6876d07a413aa911261ff6d363c72d757d47f0fdd6015702014c89cb9c7"),
        "test": FileFact(1_290_590, "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08"),
    },
)
TOKENS = PublishedCorpus(
    name="wikitext-2-v1",
    model_name=f"{MODEL}-wikitext-2-v1",
    released_as=".tokens",
    files={
        "train": FileFact(10_797_148, "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"),
        "validation": FileFact(1_121_681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
        "test": FileFact(1_256_449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
    },
)
KNOWN = {known.name: known for known in (RAW, TOKENS)}
SAMPLE = "sample"
RESERVED = (*KNOWN, SAMPLE)


def dataset_digest(files: dict[str, FileFact]) -> str:
    """Computes the digest of a corpus from the roles and bytes of its splits, independent of file names."""
    return digest_of({split: files[split].sha256 for split in SPLITS})


def find_published(files: dict[str, FileFact]) -> PublishedCorpus | None:
    """Returns the published corpus that has exactly these splits, or None."""
    return next((known for known in KNOWN.values() if known.files == files), None)
