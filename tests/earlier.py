"""A home that the previous wikigpt (schema 1, commit db18e9c) wrote, for tests that nothing of it is lost.

`earlier_home.json` is the outline of a real home, which `wikigpt run --corpus sample --profile quick --set
train.steps=20` made at that commit; `python -m tests.earlier HOME` printed it.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from components.shared.reuse.trained import weights_digest
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.storage.store import Store, open_store

OUTLINE = Path(__file__).with_name("earlier_home.json")
FINGERPRINT, EVALUATION_KEY, RUN = "0" * 31 + "1", "0" * 15 + "2", "20260101-000000-0001"
_DIGESTS = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{16}")


def make_earlier_home(
    store: Store, client: MlflowClient, root: Path, corpus: Path, model: Path, evaluation: dict[str, Any]
) -> str:
    """Version 1 of the corpus's model as champion, made by a run that ended well.

    Args:
        store: an empty one.
        client: of a registry with the project's experiment and no model.
        root: a scratch folder.
        corpus: a folder of kind corpus.
        model: a Hugging Face folder with its tokenizer, of kind model; its facts are completed.
        evaluation: the content of the evaluation.json of these weights; what that wikigpt did not write is left out.

    Returns:
        The digest of the weights.
    """
    facts = read_manifest(corpus, "corpus").metadata
    dataset, name = facts["dataset_digest"], facts["model_name"]
    made = _write_model(model, dataset)
    digest = weights_digest(made)
    folder = _write_evaluation(root / "earlier-evaluation", evaluation, digest)
    _fill_store(store, root, corpus, model, folder, dataset, name)
    _register(client, root, model, made.metadata, folder, facts, digest)
    return digest


def outline(store: Store, client: MlflowClient) -> dict[str, Any]:
    """The names of everything in a home, without values, which differ between homes."""
    (model,) = client.search_registered_models()
    (version,) = client.search_model_versions(f"name='{model.name}'")
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    run = client.get_run(version.run_id)
    artifacts = [item for item in client.list_artifacts(run.info.run_id) if item.is_dir]
    keys = [entry.key for entry in store.objects.entries("") if not entry.key.startswith("blobs/")]
    manifests = [key.removeprefix("manifests/").removesuffix(".json") for key in keys if key.startswith("manifests/")]
    kinds = {name.partition("/")[0]: name.partition("/")[2] for name in sorted(manifests)}
    found = {kind: store.find(kind, name) for kind, name in kinds.items()}
    return {
        "store": sorted({_DIGESTS.sub("…", key).replace(run.data.tags["wikigpt.pipeline_run"], "RUN") for key in keys}),
        "facts": {kind: sorted(each.metadata) for kind, each in found.items() if each},
        "claims": {name.partition("/")[0]: sorted(store.claimed(name) or {}) for name in store.claims()},
        "version": sorted(version.tags),
        "model": sorted(model.tags),
        "aliases": sorted(model.aliases),
        "logged model": sorted(set(logged.tags) - {"mlflow.modelVersions"}),
        "identity": sorted(name for name in logged.params if "." not in name),
        "run": sorted(tag for tag in run.data.tags if not tag.startswith("mlflow.")),
        "artifacts": sorted(
            [item.path for item in client.list_artifacts(run.info.run_id) if not item.is_dir]
            + [inner.path for folder in artifacts for inner in client.list_artifacts(run.info.run_id, folder.path)]
        ),
    }


def _write_model(model: Path, dataset: str) -> Any:
    facts = read_manifest(model, "model").metadata
    identity = {"dataset": dataset, "source": "5" * 64, "tokenizer": facts["tokenizer_digest"]}
    identity |= {"train.block": 32, "train.document_start": True, "train.pretrained": None}
    own = {"best_step": 100, "candidates": 0, "dataset_digest": dataset, "fingerprint": FINGERPRINT, "gpu_seconds": 0.0}
    own |= {"identity": identity, "merged": True, "parameters": facts["parameters"], "steps": 100, "stopped": "budget"}
    own |= {"tokenizer_digest": facts["tokenizer_digest"], "tokens_seen": 51200, "train_seconds": 3.0}
    own |= {"validation_loss": 4.0, "numerics": {"device": "cpu", "threads": 1, "precision": "float32"}}
    return write_manifest(model, "model", own)


def _write_evaluation(folder: Path, content: dict[str, Any], digest: str) -> Path:
    folder.mkdir(parents=True)
    content = {name: value for name, value in content.items() if name != "weights_digest"}
    (folder / "evaluation.json").write_text(json.dumps(content))
    (folder / "evaluation.html").write_text("<!doctype html><title>report</title>")
    facts = {"evaluation_key": EVALUATION_KEY, "fingerprint": FINGERPRINT, "summary": {}, "verdict": "promote"}
    write_manifest(folder, "evaluation", facts | {"weights_digest": digest})
    return folder


def _fill_store(store: Store, root: Path, corpus: Path, model: Path, evaluation: Path, dataset: str, name: str) -> None:
    for kind, own in {
        "tokens": ("dataset_digest", "dtype", "eos_id", "splits", "tokenizer_digest", "vocab_size"),
        "validation": ("dataset_digest", "passed"),
    }.items():
        folder = root / f"earlier-{kind}"
        folder.mkdir()
        (folder / "content").write_text(kind)
        write_manifest(folder, kind, dict.fromkeys(own, ""))
    store.publish(corpus, "corpus", dataset)
    store.publish(root / "earlier-tokens", "tokens", FINGERPRINT)
    store.publish(root / "earlier-validation", "validation", dataset)
    store.publish(root / "earlier-validation", "validation", f"{dataset}/{'3' * 32}")
    store.publish(model, "model", FINGERPRINT)
    store.publish(evaluation, "evaluation", f"{FINGERPRINT}/{EVALUATION_KEY}")
    beat = {"beat": 1767225600.0, "ended": True, "host": "a host", "pid": 1, "process_started": "1"}
    store.put_record(f"heartbeats/{RUN}", beat)
    store.put_record(f"versions/{name}/{FINGERPRINT}", {"run": RUN, "version": "1"})


def _register(
    client: MlflowClient, root: Path, model: Path, made: dict[str, Any], evaluation: Path, facts: dict, digest: str
) -> None:
    import mlflow.transformers

    from components.register.logged_model import load, requirements

    lineage = {
        "wikigpt.schema": "1",
        "wikigpt.fingerprint": FINGERPRINT,
        "wikigpt.dataset_digest": facts["dataset_digest"],
        "wikigpt.tokenizer_digest": made["tokenizer_digest"],
        "wikigpt.weights_digest": digest,
        "wikigpt.corpus": facts["name"],
        "wikigpt.pipeline_run": RUN,
        "wikigpt.gpu_seconds": "0.0",
        "wikigpt.train_seconds": "3.0",
        "wikigpt.parameters": str(made["parameters"]),
    }
    verdict = {"wikigpt.verdict": "promote", "wikigpt.reason": "It is the first of its name: word perplexity 9.00."}
    experiment = client.get_experiment_by_name("wikigpt").experiment_id
    tags = {"wikigpt.pipeline_run": RUN, "wikigpt.decision": "train", "wikigpt.decision_reason": "nothing is known"}
    tags |= {name: lineage[name] for name in ("wikigpt.fingerprint", "wikigpt.dataset_digest", "wikigpt.corpus")}
    tags |= {"wikigpt.model_version": f"{facts['model_name']}/1", "wikigpt.ending": "succeeded", "wikigpt.notice": "…"}
    run = client.create_run(experiment, tags=tags | verdict, run_name=RUN).info.run_id
    client.log_artifact(run, str(evaluation / "evaluation.json"), "evaluation")
    (root / "report.html").write_text("<!doctype html><title>report</title>")
    client.log_artifact(run, str(root / "report.html"), "evaluation")
    client.log_artifact(run, str(evaluation / "evaluation.html"), "reports")
    for name in ("report.html", "results.json"):
        client.log_text(run, "{}", f"validation/{name}")
    client.log_dict(run, {"download": {"corpus": facts["name"]}}, "settings.json")
    client.set_terminated(run, "FINISHED")
    identity = {name: str(value) for name, value in made["identity"].items()}
    logged = client.create_logged_model(
        experiment, name=facts["model_name"], source_run_id=run, tags=lineage, params=identity
    )
    mlflow.transformers.log_model(
        load(model), task="text-generation", model_id=logged.model_id, pip_requirements=requirements()
    )
    content = json.loads((evaluation / "evaluation.json").read_text())["protocols"]["wikitext-word"]
    scores = {
        f"wikigpt.{split}.{measure}": f"{content[split][measure]:.8g}"
        for split in ("validation", "test")
        for measure in ("word_perplexity", "token_perplexity", "bits_per_byte")
    }
    judged = {"wikigpt.evaluation_run": run, "wikigpt.evaluation_key": EVALUATION_KEY, "wikigpt.approval": "settled"}
    judged |= {"wikigpt.registered": RUN, **verdict}
    source = f"models:/{logged.model_id}"
    client.create_registered_model(facts["model_name"], tags={"wikigpt.last_champion": "1"})
    client.create_model_version(
        facts["model_name"],
        source,
        run_id=run,
        tags=lineage | scores | judged,
        description="# version 1\n\n**promote**",
    )
    client.set_registered_model_alias(facts["model_name"], "champion", "1")


if __name__ == "__main__":
    home = Path(sys.argv[1])
    seen = outline(open_store(str(home / "store")), MlflowClient(f"sqlite:///{home.resolve()}/mlflow.db"))
    print(json.dumps(seen, indent=1))
