from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def validate(
    settings: str,
    pipeline_run: str,
    corpus: dsl.Input[dsl.Dataset],
    results: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
):
    """Checks the expectations of the corpus. A failed expectation ends the run before any training.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the id of the pipeline run.
        corpus: the corpus.
        results: every expectation with the observed and the required value, JSON.
        report: the HTML report.
    """
    from pathlib import Path

    from components.shared.runtime.step import step
    from components.validate.run import run

    with step("validate", settings, pipeline_run) as here:
        run(here, Path(corpus.path), Path(results.path), Path(report.path))
