from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def evaluate(
    settings: str,
    pipeline_run: str,
    corpus: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Scores the model on validation and test, compares it with the champion and recommends.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the id of the pipeline run.
        corpus: the corpus.
        model: the trained model.
        evaluation: all scores by protocol, split and article, JSON, and the log-probabilities of the tokens.
        metrics: the headline numbers.
        report: the HTML report.

    Returns:
        `promote`, `keep`, `incomparable` or `invalid`.
    """
    from pathlib import Path

    from components.evaluate.run import run
    from components.shared.runtime.step import step

    with step("evaluate", settings, pipeline_run) as here:
        result = run(here, *map(Path, (corpus.path, model.path, evaluation.path, report.path)))
        result.write_metrics(Path(metrics.path))
    metrics.metadata.update(result.metrics)
    return result.recommendation
