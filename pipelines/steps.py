"""The steps of the pipeline with their display names, in the order in which they run."""

from __future__ import annotations

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
