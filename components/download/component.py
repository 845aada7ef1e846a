from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def download(
    settings: str,
    pipeline_run: str,
    corpus: dsl.Output[dsl.Dataset],
    tokens_key: dsl.OutputPath(str),  # type: ignore[valid-type]
    reuse_key: dsl.OutputPath(str),  # type: ignore[valid-type]
) -> str:
    """Fetches the corpus, checks its digests and decides whether the run trains.

    The decision is the only return value because kfp.local resolves a condition on nothing else.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the id of the pipeline run.
        corpus: train.txt, validation.txt, test.txt and their manifest.
        tokens_key: the reuse key of the tokens.
        reuse_key: the model key.

    Returns:
        `train` or `skip`.
    """
    from pathlib import Path

    from components.download.run import run
    from components.shared.runtime.step import step

    with step("download", settings, pipeline_run) as here:
        outcome = run(here, Path(corpus.path))
    Path(tokens_key).write_text(outcome.tokens_key, encoding="utf-8")
    Path(reuse_key).write_text(outcome.reuse_key, encoding="utf-8")
    return outcome.decision
