"""Refuses secrets in parameters, which everybody can read, and local folders, which no pod can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from components.download.corpora import RESERVED
from components.shared.base.address import is_folder
from components.shared.base.failure import ExitCode, Failure
from components.shared.signing.reference import no_key
from pipelines.cluster.secrets import CREDENTIAL, SIGNED, WEBHOOK, has_path_or_query, is_secret_name, secret_in

if TYPE_CHECKING:
    from pipelines.config.settings import RunSettings

_WEBHOOK_KEY = "notify.webhook"


def refuse_secrets(overrides: Iterable[str]) -> None:
    """Refuses overrides that look like secrets. The message names the key, never the value.

    Raises:
        Failure: a key or a value looks like a credential.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        key = key.strip()
        if value and is_secret_name(key):
            raise _secret(key, CREDENTIAL, "--set")
        if found := _found_in(key, value):
            raise _secret(key, found, "--set")


def refuse_secret_values(settings: dict[str, Any]) -> None:
    """Refuses settings of a run whose values look like secrets.

    Raises:
        Failure: a value looks like a credential.
    """
    for key, value in _leaves(settings):
        if isinstance(value, str) and (found := _found_in(key, value)):
            raise _secret(key, found, "the settings of the run")


def refuse_folders(settings: RunSettings) -> None:
    """Refuses settings that name local folders, which a pod cannot read.

    Raises:
        Failure: the corpus, the pretrained weights or the tokenizer are a folder of this machine.
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


def require_signing_key(settings: RunSettings) -> None:
    """Refuses a run that must sign its version and has no key, before it is sent.

    Raises:
        Failure: signing is required, and neither a Secret nor a key is named.
    """
    register = settings.register
    if register.signing == "required" and not (register.signing_key or settings.cluster.signing_secret):
        raise no_key("the settings of the run")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def _found_in(key: str, value: str) -> str | None:
    """What in a value looks like a credential. The address of a webhook is one if it has a path or a query."""
    if key == _WEBHOOK_KEY and has_path_or_query(value.strip().strip("\"'")):
        return WEBHOOK
    return secret_in(value)


def _secret(key: str, found: str, where: str) -> Failure:
    if key == _WEBHOOK_KEY:
        remedy = "put it into the Secret that cluster.notify_secret names, under the key WIKIGPT_WEBHOOK"
    elif found == SIGNED:
        remedy = "copy the file to object storage (`wikigpt mirror`) and give its s3:// address"
    else:
        remedy = (
            "put it into a Secret of the cluster and name that (cluster.s3_secret, cluster.mlflow_secret,"
            " cluster.notify_secret)"
        )
    return Failure(
        f"The setting {key} holds what looks like {found}, and everybody who sees the run can read it",
        where=where,
        remedy=remedy,
        exit_code=ExitCode.USAGE,
    )


def _folder(kind: str, value: str, where: str) -> Failure:
    return Failure(
        f"The {kind} {value!r} is a folder of this machine, which no pod of a cluster can read",
        where=where,
        remedy="copy it to object storage (`wikigpt mirror`) and give its s3:// address",
        exit_code=ExitCode.USAGE,
    )
