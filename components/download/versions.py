"""Pins the registered versions that settings name, once for the whole run. docs/training.md explains the rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from components.shared.base.address import OWN_TOKENIZER, is_registered
from components.shared.base.events import emit
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.model_address import ModelAddress
from components.shared.base.renamed_keys import with_new_names
from components.shared.model.registered_model import recorded_identity
from components.shared.model.registered_version import find_version, pin_version
from components.shared.runtime.step import Step
from components.shared.signing.keys import configured_public_key
from components.shared.signing.verification import require_verified
from components.shared.tracking import registry
from components.shared.tracking.approval import approved_champion
from components.shared.tracking.run import translate_mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient


def pin_versions(step: Step) -> None:
    """Replaces every address of a registered version in the settings of a step by a pinned one.

    If no tokenizer is named and the training starts from a registered version, or learns from some, the tokenizer is
    that of the version, or of the first of them.

    Raises:
        Failure: see `components.shared.model.registered_version.pin_version`; or a version does not verify by the
            configured public key.
    """
    train, tokenize = dict(step.settings["train"]), dict(step.settings["tokenize"])
    verified: set[str] = set()  # pinned addresses
    if is_registered(train.get("pretrained") or ""):
        train["pretrained"] = _pin(step, train["pretrained"], "train.pretrained", verified)
        if tokenize.get("tokenizer", OWN_TOKENIZER) == OWN_TOKENIZER:
            tokenize["tokenizer"] = train["pretrained"]
    if train.get("distill"):
        train["distill"] = [_pin(step, teacher, "train.distill", verified) for teacher in train["distill"]]
        if tokenize.get("tokenizer", OWN_TOKENIZER) == OWN_TOKENIZER:
            tokenize["tokenizer"] = train["distill"][0]
    if is_registered(tokenize.get("tokenizer", OWN_TOKENIZER)):
        tokenize["tokenizer"] = _pin(step, tokenize["tokenizer"], "tokenize.tokenizer", verified)
    step.settings.update(train=train, tokenize=tokenize)


def continued_version(client: MlflowClient, asked: str, pinned: str, key_parts: dict[str, Any]) -> str | None:
    """The number of the version that an alias names, if that version is the result of the same request.

    A run that starts from the champion may become the champion. Without this rule every later run would start from the
    last one and train once more on the same corpus. The request is the same if all parts of the key are, except for the
    version from which the training starts.

    Args:
        client: a client of the registry.
        asked, pinned: `train.pretrained` before and after it was pinned; "" if it is not set.
        key_parts: the parts of the model key of the run.
    """
    if not is_registered(asked) or not ModelAddress.parse(asked).alias:
        return None
    address = ModelAddress.parse(pinned)
    version = find_version(client, address, "train.pretrained")
    if not registry.is_complete(version):
        return None
    theirs = with_new_names(recorded_identity(client, version))
    ours = {name: registry.param_text(value) for name, value in key_parts.items()}
    of_model = f"models:/{address.name}/"

    def is_same(name: str) -> bool:
        then, now = theirs.get(name, ""), ours[name]
        return then == now or (then.startswith(of_model) and now.startswith(of_model))

    return address.version if all(map(is_same, ours)) else None


def _pin(step: Step, text: str, setting: str, verified: set[str]) -> str:
    text = _approved(step, text)
    client = step.tracking.client
    pinned = pin_version(client, text, setting)
    if str(pinned) not in verified and configured_public_key():
        with translate_mlflow_errors(client):
            require_verified(client, find_version(client, replace(pinned, digest=""), setting))
        verified.add(str(pinned))
    if ModelAddress.parse(text).alias:
        emit("note", text=f"{setting}: {text} is version {pinned.version} for the whole run")
    return str(pinned)


def _approved(step: Step, text: str) -> str:
    """The address with the number of the approved champion, if it names the alias champion and that is not followed."""
    address = ModelAddress.parse(text)
    if address.alias != registry.CHAMPION or not step.promoters:
        return text
    with translate_mlflow_errors(step.tracking.client):
        approved = approved_champion(step.tracking.client, address.name, step.promoters)
    if approved.refused is None:
        return text
    if approved.version is None:
        raise Failure(
            f"No champion of {address.name} is approved: {approved.refused.reason.rstrip('.')}",
            where=text,
            remedy="name a version by its number",
            exit_code=ExitCode.USAGE,
        )
    return f"models:/{address.name}/{approved.version}"
