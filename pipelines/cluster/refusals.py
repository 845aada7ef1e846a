"""What is refused before anything is sent: secrets in parameters, which everybody can read, and folders no pod sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from components.download.corpora import RESERVED
from components.shared.address import is_folder
from components.shared.failure import ExitCode, Failure

if TYPE_CHECKING:
    from pipelines.settings import RunSettings

_KEY = re.compile(
    r"(^|[._-])(password|passwd|secret|token|credentials?|apikey|(api|access|private|secret)[_-]?key)$", re.IGNORECASE
)
_VALUE = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(hf_|ghp_|gho_|glpat-|xox[abp]-)[A-Za-z0-9_-]{16,}"
    r"|\b[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@"
    r"|\bhttps://hooks\.slack\.com/services/\S"
)


def refuse_secrets(overrides: Iterable[str]) -> None:
    """Looks at what a person set for one run. The sentence names the key, never the value.

    Raises:
        Failure: a key or a value looks like a credential.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        key = key.strip()
        called_one = _KEY.search(key) and not key.startswith("cluster.")  # those give the names of Secrets
        if value and (called_one or _VALUE.search(value)):
            raise _secret(key, "--set")


def refuse_secret_values(settings: dict[str, Any]) -> None:
    """Looks at all that travels with a run, whoever wrote it.

    Raises:
        Failure: a value looks like a credential.
    """
    for key, value in _leaves(settings):
        if isinstance(value, str) and _VALUE.search(value):
            raise _secret(key, "the settings of the run")


def refuse_folders(settings: RunSettings) -> None:
    """Looks at the settings that a run is started with: all that they name must be where a pod can fetch it.

    Raises:
        Failure: corpus, pretrained weights or tokenizer are a folder of this machine.
    """
    corpus = settings.download.corpus
    if corpus not in RESERVED and "://" not in corpus:
        raise _folder("corpus", corpus, "download.corpus")
    for kind, value, where in (
        ("folder of pretrained weights", settings.train.pretrained, "train.pretrained"),
        ("folder of a tokenizer", settings.tokenize.tokenizer, "tokenize.tokenizer"),
    ):
        if value is not None and is_folder(value):
            raise _folder(kind, value, where)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _secret(key: str, where: str) -> Failure:
    return Failure(
        f"The setting {key} holds what looks like a credential, and everybody who sees the run could read it",
        where=where,
        remedy="put it into a Secret of the cluster and name that (cluster.s3_secret, cluster.mlflow_secret,"
        " cluster.notify_secret)",
        exit_code=ExitCode.USAGE,
    )


def _folder(kind: str, value: str, where: str) -> Failure:
    return Failure(
        f"The {kind} {value!r} is a folder of this machine, which no pod of a cluster sees",
        where=where,
        remedy="copy it to object storage (`wikigpt mirror`) and give its s3:// address",
        exit_code=ExitCode.USAGE,
    )
