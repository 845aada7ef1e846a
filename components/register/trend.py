"""Shows the trend over versions on the page of the registered model in MLflow.

MLflow removes pictures with their own data from a description, so the picture is an artifact of the run, and the
description has its address on the server. A text that people wrote into the description stays above it.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from components.shared.base.redact import redact
from components.shared.report.trend_chart import trend_chart
from components.shared.tracking import registry
from components.shared.tracking.champion_moves import champion_state
from components.shared.tracking.trend import trend_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACT = "trend/trend.png"
_BEGIN, _END = "<!-- trend of versions up to {} -->", "<!-- end of the trend -->"
_BLOCK = re.compile(r"<!-- trend of versions up to (\d+) -->.*?<!-- end of the trend -->", re.DOTALL)
_MOST = 5000  # characters of a description in MLflow's database


def show_trend(client: MlflowClient, model: str, run_id: str) -> None:
    """Draws the versions of a model, logs the picture to a run and links it in the description of the model.

    An error is only a warning, because the version is registered already.

    Args:
        client: a client of the registry.
        model: the name of the registered model.
        run_id: the MLflow run.
    """
    try:
        _show(client, model, run_id)
    except Exception as error:
        print(f"The trend over versions could not be drawn: {redact(f'{type(error).__name__}: {error}')}")


def _show(client: MlflowClient, model: str, run_id: str) -> None:
    points = trend_of(registry.versions(client, model), champion_state(client, model).holder)
    if not points:
        return
    with tempfile.TemporaryDirectory(prefix="wikigpt-trend-") as scratch:
        picture = Path(scratch) / Path(ARTIFACT).name
        picture.write_bytes(trend_chart(points, model, "png"))
        client.log_artifact(run_id, str(picture), str(Path(ARTIFACT).parent))
    text = with_trend(client.get_registered_model(model).description or "", run_id, points[-1].version)
    if text:
        client.update_registered_model(model, text)


def with_trend(description: str, run_id: str, newest: int) -> str | None:
    """The description with the picture of a run; None if it has one of a newer version, or no room.

    Args:
        description: the description as it is.
        run_id: the run that has the picture.
        newest: the newest version in the picture.
    """
    if (known := _BLOCK.search(description)) and int(known[1]) > newest:
        return None
    # Relative to the page of MLflow, whatever the address of the server is.
    address = "get-artifact?" + urlencode({"path": ARTIFACT, "run_uuid": run_id})
    block = f"{_BEGIN.format(newest)}\n![Perplexity, tokens and cost by version]({address})\n{_END}"
    text = _BLOCK.sub(block, description) if known else f"{description.rstrip()}\n\n{block}".lstrip()
    return text if len(text) <= _MOST else None
