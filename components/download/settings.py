"""Settings of the download step."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.download.address import data_set_of, is_archive, is_data_set
from components.download.corpora import RESERVED
from components.download.naming import LONGEST, is_name
from components.shared.base.address import is_repository, is_web_address, require_bucket_name
from components.shared.base.ranges import safe_repr

_SCHEMES = ("https", "http", "s3", "hf")


@dataclass(frozen=True, kw_only=True)
class DownloadSettings:
    """The corpus, and whether the run trains in any case.

    Attributes:
        corpus: `wikitext-2-raw-v1`, `wikitext-2-v1` or `sample`; a local folder; an `https://` address of a zip or
            tar.gz archive; an `s3://` prefix; a data set on the Hub as `hf://owner/name[@revision]`.
        name: the name of a user's own text; its models are called `wikigpt-<name>`. The default is the last part of its
            address, followed by a digest if models of another text have that name.
        sha256: the digest of an archive (64 hex digits); a pinned archive is downloaded once and then reused.
        text_column: the column with the text in Parquet and JSON Lines files and in data sets on the Hub.
        force: whether the run trains even if a version, a model or a checkpoint exists.
        fall_back_to_sample: whether the run trains on `sample` if the Hub cannot be reached.
    """

    corpus: str = "wikitext-2-raw-v1"
    name: str | None = None
    sha256: str | None = None
    text_column: str = "text"
    force: bool = False
    fall_back_to_sample: bool = False

    def __post_init__(self) -> None:
        scheme, separator, _ = self.corpus.partition("://")
        if not self.corpus.strip():
            raise ValueError("corpus must name a corpus, a folder or an address, got nothing")
        if separator and scheme not in _SCHEMES:
            raise ValueError(
                f"corpus must be a name, a folder, or an https://, s3:// or hf:// address, got {safe_repr(scheme)}"
            )
        if is_archive(self.corpus) and not is_web_address(self.corpus):
            raise ValueError(f"corpus must have a valid host, got {safe_repr(self.corpus)}")
        require_bucket_name("corpus", self.corpus)
        if is_data_set(self.corpus):
            repository, revision = data_set_of(self.corpus)
            if repository.count("/") != 1 or not is_repository(repository):
                raise ValueError(
                    f"corpus must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION, got {safe_repr(self.corpus)}"
                )
            if ("@" in self.corpus and not revision) or re.search(r"\s|@", revision or ""):
                raise ValueError(f"corpus must name a branch, a tag or a commit after @, got {safe_repr(self.corpus)}")
        if not self.text_column:
            raise ValueError("text_column must name a column, got nothing")
        if self.name is not None and not is_name(self.name):
            raise ValueError(
                f"name must be at most {LONGEST} letters in lower case, digits, dots and dashes,"
                f" got {safe_repr(self.name)}"
            )
        if self.name in RESERVED:
            raise ValueError(f"name must not be that of a corpus of the project, got {safe_repr(self.name)}")
        if self.name is not None and self.corpus in RESERVED:
            raise ValueError(f"name is for a text of your own, and corpus is {safe_repr(self.corpus)}")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 must be 64 hexadecimal digits in lower case, got {safe_repr(self.sha256)}")
        if self.sha256 is not None and not is_archive(self.corpus):
            raise ValueError(f"sha256 is for an https:// archive, and corpus is {safe_repr(self.corpus)}")
