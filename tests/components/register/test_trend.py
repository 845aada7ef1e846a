"""The trend over versions: what it shows, and where MLflow shows it."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.register.promotion import decide_alias
from components.register.trend import ARTIFACT, show_trend, with_trend
from components.shared.report.trend_chart import trend_chart
from components.shared.tracking import registry
from components.shared.tracking.run import EXPERIMENT
from components.shared.tracking.trend import trend_of
from tests.registry import judge_of, make_version

NAME = "wikigpt"


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri)


def add(client: MlflowClient, nll_per_word: float) -> None:
    version = make_version(client, NAME, nll_per_word)
    client.set_model_version_tag(NAME, version, registry.TOKENS_SEEN, "2048000")
    client.set_model_version_tag(NAME, version, registry.GPU_SECONDS, "12.5")
    decide_alias(client, NAME, version, judge_of(nll_per_word))


def test_the_interval_is_that_of_the_gate_around_the_perplexity(client: MlflowClient) -> None:
    add(client, 5.0)
    add(client, 4.0)
    first, second = trend_of(registry.versions(client, NAME), "2")
    assert (first.version, first.interval, first.is_champion) == (1, None, False)
    assert (second.version, second.tokens, second.gpu_seconds, second.is_champion) == (2, 2048000, 12.5, True)
    assert second.interval is not None and second.measure is not None
    # All articles of these evaluations differ by one nat per word, so the interval is as narrow as its rounding.
    assert second.interval == (pytest.approx(second.measure), pytest.approx(second.measure))


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_picture_is_a_file_of_its_own(client: MlflowClient, kind: str) -> None:
    add(client, 5.0)
    content = trend_chart(trend_of(registry.versions(client, NAME), "1"), "a $ model", kind)  # type: ignore[arg-type]
    assert content.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert b"#010f0" not in content, "the colours that stand for those of a page"


def test_the_page_of_the_model_links_the_picture_below_the_text_of_people(client: MlflowClient, tmp_path: Path) -> None:
    add(client, 5.0)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = [client.create_run(experiment).info.run_id for _ in range(2)]
    client.update_registered_model(NAME, "Ours. Ask ada.")
    for run in runs:
        show_trend(client, NAME, run)
    text = client.get_registered_model(NAME).description
    assert text.startswith("Ours. Ask ada.\n\n<!-- trend of versions up to 1 -->\n![Perplexity, tokens and cost")
    assert text.count("get-artifact") == 1 and f"run_uuid={runs[1]}" in text
    picture = client.download_artifacts(runs[1], ARTIFACT, str(tmp_path))
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_a_picture_with_newer_versions_and_a_full_description_stay() -> None:
    newer = with_trend("", "run-7", 7)
    assert newer and with_trend(newer, "run-6", 6) is None
    assert with_trend("x" * 4990, "run-7", 7) is None


def test_an_error_is_only_a_warning(client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    add(client, 5.0)
    show_trend(client, NAME, "no such run")
    assert "The trend over versions could not be drawn" in capsys.readouterr().out
