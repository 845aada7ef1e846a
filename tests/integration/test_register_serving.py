"""The commands of docs/serving.md that can run here, unchanged except for addresses and folders."""

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient

from pipelines.registry.export import export
from pipelines.registry.references import resolve
from tests.http_servers import free_port
from tests.registry import make_folders, make_step, register
from tests.servers import PROGRAMS, serving

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text().replace("\\\n", "")

pytestmark = pytest.mark.slow


def command(program: str, port: int) -> list[str]:
    """The command of the page that begins with these words, with another port."""
    line = re.search(rf"^(?:\w+=\w+ )?({program} .*)$", PAGE, re.MULTILINE)
    assert line
    words = shlex.split(line[1])
    words[words.index("--port") + 1] = str(port)
    return [str(PROGRAMS / words[0]), *words[1:]]


def question(path: str) -> Any:
    """The body that the page sends to a path."""
    line = re.search(rf"^curl \S+{path} .*$", PAGE, re.MULTILINE)
    assert line
    words = shlex.split(line[0])
    return json.loads(words[words.index("-d") + 1])


@pytest.fixture
def client(
    tracking_uri: str,
    hugging_face_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> MlflowClient:
    """A registry with a champion of the name that the page uses."""
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32, model_name="wikigpt")
    register(make_step("run-1"), folders)
    return MlflowClient(tracking_uri)


def test_mlflow_serves_the_champion_with_the_parameters_of_its_signature(client: MlflowClient, tmp_path: Path) -> None:
    port = free_port()
    body = question("/invocations")
    assert body["params"].keys() <= {"max_new_tokens", "do_sample", "temperature", "top_k", "top_p"}
    serve = command("mlflow models serve", port)
    with serving(serve, f"http://127.0.0.1:{port}/ping", tmp_path / "server.log") as address:
        texts = []
        for tokens in (body["params"]["max_new_tokens"], 1):
            asked = body | {"params": body["params"] | {"max_new_tokens": tokens}}
            answer = requests.post(f"{address}/invocations", json=asked, timeout=60)
            assert answer.ok, answer.text
            texts += answer.json()["predictions"]
    assert all(text.startswith("The castle was built in") for text in texts)
    assert len(texts[0]) > len(texts[1])


@pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="no transformers[serving] here: pip install it")
def test_transformers_serves_the_exported_folder(client: MlflowClient, tmp_path: Path) -> None:
    port = free_port()
    serve, body = command("transformers serve", port), question("/v1/completions")
    assert body["model"] in serve
    assert re.search(r"^wikigpt export champion (\S+)$", PAGE, re.MULTILINE)[1] == Path(body["model"]).name
    export(client, resolve(client, "champion"), tmp_path / body["model"])
    log = tmp_path / "server.log"
    with serving(serve, f"http://127.0.0.1:{port}/health", log, {"HF_HUB_OFFLINE": "1"}) as address:
        answer = requests.post(f"{address}/v1/completions", json=body, timeout=60)
        assert answer.ok, answer.text
    assert answer.json()["usage"]["completion_tokens"] == body["max_tokens"]
    assert answer.json()["choices"][0]["text"]
