from itertools import product

import pytest

from components.shared.reuse.decide import decide


@pytest.mark.parametrize(
    ("force", "version", "model", "checkpoint", "action", "level"),
    [
        (False, None, False, False, "train", "nothing"),
        (False, None, False, True, "train", "checkpoint"),
        (False, None, True, False, "train", "model"),
        (False, None, True, True, "train", "model"),
        (False, "7", False, False, "skip", "version"),
        (False, "7", False, True, "skip", "version"),
        (False, "7", True, False, "skip", "version"),
        (False, "7", True, True, "skip", "version"),
        *(
            (True, version, model, checkpoint, "train", "forced")
            for version, model, checkpoint in product((None, "7"), (False, True), (False, True))
        ),
    ],
)
def test_the_first_reuse_level_that_applies_decides(force, version, model, checkpoint, action, level):
    decision = decide(force=force, version=version, model=model, checkpoint=checkpoint)
    assert (decision.action, decision.level) == (action, level)
    assert decision.reason


@pytest.mark.parametrize(("model", "checkpoint"), list(product((False, True), repeat=2)))
def test_a_start_that_is_the_result_of_the_same_request_is_a_reason_to_skip(model, checkpoint):
    decision = decide(force=False, version=None, model=model, checkpoint=checkpoint, continued="8")
    assert (decision.action, decision.level) == ("skip", "version")
    assert "version 8" in decision.reason
    assert decide(force=True, version=None, model=model, checkpoint=checkpoint, continued="8").action == "train"


def test_a_skip_names_the_version():
    assert "version 7" in decide(force=False, version="7", model=True, checkpoint=True).reason
