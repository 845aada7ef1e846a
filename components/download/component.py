from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def download(
    settings: str,
    pipeline_run: str,
    corpus: dsl.Output[dsl.Dataset],
    tokens_key: dsl.OutputPath(str),  # type: ignore[valid-type]
    reuse_key: dsl.OutputPath(str),  # type: ignore[valid-type]
    reuse_level: dsl.OutputPath(str),  # type: ignore[valid-type]
) -> str:
    """Fetches the corpus, checks its digests and decides whether the run trains.

    The decision is the only return value because kfp.local resolves a condition on nothing else.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the id of the pipeline run.
        corpus: train.txt, validation.txt, test.txt and their manifest.
        tokens_key: the reuse key of the tokens.
        reuse_key: the model key.
        reuse_level: the most useful artifact that exists for the model key, or `forced` if all are ignored.

    Returns:
        `train` or `skip`.
    """
    from pathlib import Path

    from components.download.run import run
    from components.shared.runtime.step import step

    with step("download", settings, pipeline_run) as here:
        outcome = run(here, Path(corpus.path))
        outcome.write(Path(tokens_key), Path(reuse_key), Path(reuse_level))
    return outcome.decision
