from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def register(
    settings: str,
    pipeline_run: str,
    reuse_key: str,
    corpus: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    report: dsl.Input[dsl.HTML],
) -> str:
    """Logs the model to MLflow, registers it once per digest of its weights and moves the alias by the gate's verdict.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the id of the pipeline run.
        reuse_key: the model key.
        corpus: the corpus that it was trained on.
        model: the trained model.
        evaluation: its scores.
        report: the report of the evaluation.

    Returns:
        The number of the model version.
    """
    from pathlib import Path

    from components.register.run import run
    from components.shared.runtime.step import step

    with step("register", settings, pipeline_run) as here:
        return run(here, reuse_key, *map(Path, (corpus.path, model.path, evaluation.path, report.path)))
