"""The scores of a registered version, static and adapted while scored, with the parameters that were chosen.

    python -m tests.benchmarks.adapted_scores --home .wikigpt --record docs/benchmarks/adapted_cpu.json

The version is the champion of the only registered model of the home. Its evaluation must have been asked for by
`evaluate.protocols=[wikitext-word, wikitext-word+dynamic, wikitext-word+cache]`. Nothing is computed: the scores are
those that the evaluation recorded.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from components.shared.tracking import registry
from pipelines.local.home import existing_home
from pipelines.registry.references import resolve
from tests.benchmarks import record

_MEASURES = ("word_perplexity", "token_perplexity", "bits_per_byte")


def main() -> None:
    """Prints the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    record.add_options(parser)
    options = parser.parse_args()
    values = scores_of(options.home)
    title = f"The profile {values['profile']}, static and adapted while scored"
    recorder = record.Recorder(options, "adapted_scores", title, ["torch", "transformers"])
    print(json.dumps(values, indent=1))
    recorder.save(values)


def scores_of(home: Path) -> dict[str, Any]:
    """The scores of the champion on both splits by each protocol.

    Raises:
        SystemExit: its evaluation has no adapted scores.
    """
    client = MlflowClient(existing_home(home).tracking_uri)
    version = resolve(client, registry.CHAMPION)
    evaluation = registry.evaluation_of(client, version)
    if not evaluation or not evaluation.get("adapted"):
        raise SystemExit(f"The evaluation of version {version.version} in {home} has no adapted scores.")
    static = evaluation["protocols"]["wikitext-word"]
    settings = json.loads(Path(client.download_artifacts(version.run_id, "settings.json")).read_text(encoding="utf-8"))
    return {
        "profile": settings["profile"],
        "stride": settings["evaluate"]["stride"],
        "weights_digest": version.tags[registry.WEIGHTS_DIGEST],
        "static": _measures(static),
        **{method: _measures(found["splits"]) for method, found in _adapted(evaluation).items()},
        "parameters": {method: found["parameters"] for method, found in _adapted(evaluation).items()},
    }


def _adapted(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {protocol.partition("+")[2]: found for protocol, found in evaluation["adapted"].items()}


def _measures(splits: dict[str, Any]) -> dict[str, Any]:
    return {split: {name: round(splits[split][name], 4) for name in _MEASURES} for split in ("validation", "test")}


if __name__ == "__main__":
    main()
