"""The pipelines by their names on a server, and the steps with their display names in the order in which they run."""

from __future__ import annotations

NAME = "wikigpt"
SWEEP = f"{NAME}-sweep"
TITLES = {
    "download": "Fetch the corpus and decide",
    "validate": "Validate the corpus",
    "tokenize": "Tokenize the corpus",
    "train": "Train the model",
    "evaluate": "Evaluate the model",
    "register": "Register the model",
    "notify": "Notify",
}
STEPS = tuple(TITLES)
