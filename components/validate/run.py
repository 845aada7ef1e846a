"""The step that checks the expectations of the corpus, writes a report, and stops the run if one fails."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.shared.base.events import emit
from components.shared.base.failure import Failure
from components.shared.report.report import TEMPLATES
from components.shared.reuse.keys import code_and_releases, key_of
from components.shared.runtime.step import Step
from components.shared.storage.files import file_fact, write_atomically
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.tracking.run import translate_mlflow_errors
from components.validate.checks import checks
from components.validate.corpus import read_corpus
from components.validate.drift import KIND, RESULTS, Reference, champion_reference, comparable
from components.validate.expectations import run_checks
from components.validate.measures import build_tables
from components.validate.report import write_report
from components.validate.results import Validation
from components.validate.settings import ValidateSettings
from components.validate.statistics import text_statistics, word_shares

REPORT = "report.html"


def run(step: Step, corpus_dir: Path, results_dir: Path, report_path: Path) -> None:
    """Validates a corpus, or reuses the stored results of the same validation.

    The step writes `results.json` and `report.html` to the results, copies the report to its own path, and logs both to
    MLflow, for every verdict. The results are in the store under the dataset digest and a key of the expectations, and
    also under the dataset digest alone, for later comparisons with this corpus.

    Raises:
        Failure: an expectation with the severity error failed.
    """
    started = time.monotonic()
    settings = step.section(ValidateSettings)
    metadata = read_manifest(corpus_dir, "corpus").metadata
    digest = metadata["dataset_digest"]
    reference = champion_reference(step.tracking.client, step.store, metadata["model_name"], digest, step.promoters)
    name = f"{digest}/{validation_key(settings, metadata, reference)}"
    reused = step.store.fetch(KIND, name, results_dir) is not None
    if reused:
        emit("reused", step=step.name, what="verdict", dataset_digest=digest)
    else:
        passed = _validate(corpus_dir, results_dir, metadata, settings, reference)
        write_manifest(results_dir, KIND, {"dataset_digest": digest, "passed": passed})
        step.store.publish(results_dir, KIND, digest, replace=True)
        step.store.publish(results_dir, KIND, name)  # last, because a run that finds it does not validate again
    report_path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(results_dir / REPORT, report_path)
    with translate_mlflow_errors(step.tracking.client):
        for file in (RESULTS, REPORT):
            step.tracking.artifact(results_dir / file, KIND)
    step.findings.update(report=step.tracking.address(f"{KIND}/{REPORT}"))
    validation = Validation.from_json((results_dir / RESULTS).read_bytes())
    _report_result(validation, seconds=time.monotonic() - started)
    if validation.errors:
        raise _failure(validation, step.findings["report"])


def _validate(
    corpus_dir: Path,
    results_dir: Path,
    metadata: dict[str, Any],
    settings: ValidateSettings,
    reference: Reference | None,
) -> bool:
    corpus = read_corpus(corpus_dir, metadata)
    reference = comparable(reference, corpus.unit)
    tables = build_tables(corpus, settings, reference)
    validation = Validation(
        corpus=metadata,
        settings=asdict(settings),
        expectations=tuple(run_checks(checks(corpus, settings, reference), tables)),
        statistics=text_statistics(corpus),
        frequent_words=word_shares(corpus),
        champion={"version": reference.version, "dataset_digest": reference.dataset_digest} if reference else None,
        unit=corpus.unit,
    )
    write_atomically(results_dir / RESULTS, validation.to_json())
    write_atomically(results_dir / REPORT, write_report(corpus, tables, validation))
    return not validation.errors


def validation_key(settings: ValidateSettings, metadata: dict[str, Any], reference: Reference | None) -> str:
    """Returns the reuse key of the results: it covers everything except the text that affects verdict and report.

    Args:
        settings: the limits.
        metadata: the metadata of the corpus, which the report shows.
        reference: the measurements that the corpus is compared with.
    """
    templates = {path.name: file_fact(path).sha256 for path in TEMPLATES.iterdir()}
    compared = reference and [reference.version, reference.dataset_digest]
    parts = {"settings": asdict(settings), "corpus": metadata, "compared": compared, "templates": templates}
    return key_of({**code_and_releases("validation"), **parts})


def _report_result(validation: Validation, *, seconds: float) -> None:
    for warning in validation.warnings:
        emit("note", text=f"warning: {warning.sentence}")
    emit(
        "validated",
        corpus=validation.corpus["name"],
        expectations=len(validation.expectations),
        errors=len(validation.errors),
        warnings=len(validation.warnings),
        seconds=round(seconds, 2),
    )


def _failure(validation: Validation, report: str) -> Failure:
    first, *others = validation.errors
    more = f" (and {len(others)} more)" if others else ""
    loosen = f", or loosen validate.{first.setting}" if first.setting else ""
    return Failure(
        f"The expectation {first.sentence}{more}",
        where=f"corpus {validation.corpus['name']}",
        remedy=f"fix the corpus{loosen}; the report {report} in MLflow shows everything",
    )
