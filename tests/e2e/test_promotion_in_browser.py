"""A person promotes a challenger by clicks in MLflow's own pages; then the commands use the new champion.

With WIKIGPT_SCREENSHOTS=1 the pictures of docs/images are written again.
"""

import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipelines.registry.generation import load_writer, write
from pipelines.registry.models import models
from pipelines.registry.promotion import rollback
from pipelines.registry.references import resolve
from tests.browser import NEEDS_BROWSER, give_champion, open_browser, open_models, open_version
from tests.registry import another_model, make_folders, make_step, register
from tests.servers import mlflow_server

IMAGES = Path(__file__).parents[2] / "docs" / "images"
NAME = "wikigpt"

pytestmark = [pytest.mark.slow, *NEEDS_BROWSER]


@pytest.fixture
def address(
    empty_database: Path,
    hugging_face_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """MLflow's server with version 1 as champion and version 2 as challenger."""
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    with mlflow_server(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        first = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32, nll_per_word=4.7, model_name=NAME)
        register(make_step("run-1"), first)
        register(make_step("run-2"), another_model(first, tmp_path / "b", "2" * 32, 4.72))
        yield server


@pytest.fixture
def page() -> Iterator[Any]:
    with open_browser() as page:
        yield page


def picture(page: Any, name: str) -> None:
    """Saves a screenshot of the page in few colours, if pictures were requested."""
    if os.environ.get("WIKIGPT_SCREENSHOTS"):
        from PIL import Image

        shown = Image.open(BytesIO(page.screenshot())).convert("RGB")
        shown.quantize(96).save(IMAGES / f"{name}.png", optimize=True)


def require_trend(page: Any) -> None:
    """The page of the registered model shows the picture of the trend over versions."""
    page.get_by_role("link", name=NAME, exact=True).click()
    trend = page.locator("img[src^='get-artifact']")  # MLflow removes its description
    trend.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth > 500", arg=trend.element_handle())


def test_a_click_makes_the_challenger_champion(address: str, page: Any) -> None:
    client = MlflowClient(address)
    assert str(resolve(client, "champion").version) == "1"

    open_models(page, address)
    require_trend(page)
    page.goto(f"{address}/#/models")
    open_version(page, NAME, "2")
    page.get_by_text("Licence of the text: CC BY-SA 3.0").wait_for()
    give_champion(page, "1", saving=lambda: picture(page, "add-alias-champion"))
    picture(page, "version-is-champion")

    assert {row.version: row.aliases for row in models(client)} == {"2": ["challenger", "champion"], "1": []}
    champion = resolve(client, "champion")
    assert str(champion.version) == "2"
    assert write(load_writer(client, champion), "The castle was built in", max_new_tokens=5).startswith("The castle")
    assert rollback(client, reason="the other one reads better").version == "1"
