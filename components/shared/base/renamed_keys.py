"""Settings that were renamed. Old names are accepted with a warning for this version; the next one refuses them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from typing import Any

from components.shared.base.failure import ExitCode, Failure

_log = logging.getLogger(__name__)

RENAMED = {
    "train.batch": "train.global_batch_size",
    "train.accumulation": "train.gradient_accumulation_steps",
    "train.block": "train.sequence_length",
    "train.width": "train.hidden_size",
    "train.layers": "train.num_hidden_layers",
    "train.heads": "train.num_attention_heads",
    "train.feed_forward": "train.intermediate_size",
    "train.start": "train.init",
    "train.final_learning_rate": "train.min_lr_ratio",
    "train.matrix_learning_rate": "train.muon_learning_rate",
    "train.document_start": "train.prepend_eos",
}


def renamed_among(names: Iterable[str], where: str) -> dict[str, str]:
    """The old names among some settings, each with its new name. A warning names both.

    Args:
        names: the settings that are given, each as `section.key`.
        where: the source of the settings, for the error.

    Raises:
        Failure: a setting is given by its old and by its new name.
    """
    given = set(names)
    found = {old: new for old, new in RENAMED.items() if old in given}
    for old, new in found.items():
        if new in given:
            raise Failure(
                f"{old} is the old name of {new}, and both are given",
                where=where,
                remedy=f"keep only {new}",
                exit_code=ExitCode.USAGE,
            )
        _warn(f"warning: {old} is now called {new}; the next version will refuse the old name")
    return found


def with_new_keys(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """Settings by section and key with every old name replaced, see `renamed_among`."""
    names = (f"{section}.{key}" for section, values in settings.items() if isinstance(values, dict) for key in values)
    current = dict(settings)
    for old, new in renamed_among(names, where).items():
        section, old_key = old.split(".")
        current[section] = {new.split(".")[1] if key == old_key else key: v for key, v in current[section].items()}
    return current


def with_new_names(identity: dict[str, Any]) -> dict[str, Any]:
    """The recorded identity of a model with every old name replaced. Records of older versions keep the old names."""
    return {RENAMED.get(name, name): value for name, value in identity.items()}


@cache
def _warn(text: str) -> None:
    """Logs a warning once: a command may read its settings several times."""
    _log.warning(text)
