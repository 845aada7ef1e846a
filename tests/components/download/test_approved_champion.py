"""A run that starts from the champion starts from the approved one."""

import pytest

from components.download import versions
from components.download.versions import pin_versions
from components.shared.base.failure import Failure
from components.shared.base.model_address import ModelAddress
from components.shared.runtime.step import Step
from components.shared.tracking import registry
from tests.registry import make_version

NAME = "wikigpt"


@pytest.fixture
def start(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Step:
    """The step with the settings of a run that starts from the champion; the alias is on version 2 by a click."""
    pinned = {"pretrained": f"models:/{NAME}@champion"}
    here = Step("download", "run-1", {"train": pinned, "tokenize": {}, "register": {"promoters": ["ada"]}})
    monkeypatch.setattr(versions, "pin_version", lambda _, text, setting: ModelAddress.parse(text))
    for nll in (5.0, 6.0):
        make_version(here.tracking.client, NAME, nll)
    here.tracking.client.set_registered_model_alias(NAME, "champion", "2")
    return here


def test_a_click_of_no_promoter_does_not_decide_where_a_training_starts(start: Step) -> None:
    with pytest.raises(Failure, match="No champion of wikigpt is approved"):
        pin_versions(start)
    start.tracking.client.set_registered_model_tag(NAME, registry.LAST_CHAMPION, "1")
    pin_versions(start)
    assert start.settings["train"]["pretrained"] == f"models:/{NAME}/1"


def test_a_champion_that_nobody_moved_is_the_start(start: Step) -> None:
    start.tracking.client.set_registered_model_tag(NAME, registry.LAST_CHAMPION, "2")
    pin_versions(start)
    assert start.settings["train"]["pretrained"] == f"models:/{NAME}@champion"
