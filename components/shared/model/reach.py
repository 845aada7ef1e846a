"""The length of the context that a model was trained with."""

from __future__ import annotations

from typing import Any

from components.shared.base.address import is_registered
from components.shared.base.renamed_keys import with_new_names

# The part of a model's identity that has the reach of the registered version from which its training started.
REACH_OF_START = "reach_of_start"


def trained_reach(context: int, identity: dict[str, Any]) -> int:
    """The length of the context that a model was trained with, in tokens.

    A model trained from scratch has not seen positions beyond its training sequences, whatever its config allows.
    Pretrained weights of unknown origin count as trained on their whole context. A model that started from a registered
    version has seen the longer of the version's reach and its own sequences.

    Args:
        context: the largest number of positions, from the config of the model.
        identity: the inputs of its training, see `components.train.run`.
    """
    identity = with_new_names(identity)
    length, start = identity.get("train.sequence_length"), identity.get("train.pretrained")
    if not length or (start and not is_registered(start)):
        return context
    return min(context, max(int(length), int(identity.get(REACH_OF_START, 0))))
