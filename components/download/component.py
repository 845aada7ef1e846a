from typing import NamedTuple

from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def download(settings: str, pipeline_run: str, corpus: dsl.Output[dsl.Dataset]) -> NamedTuple(  # type: ignore[valid-type]
    "Outputs", [("decision", str), ("fingerprint", str)]
):
    """Fetches the corpus, checks its digests and decides whether there is anything to train.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the identity of the pipeline run.
        corpus: train.txt, validation.txt, test.txt and their manifest.

    Returns:
        decision: `train` or `skip`; fingerprint: of the training that these settings and this corpus ask for.
    """
    from pathlib import Path

    from components.download.run import run
    from components.shared.step import step

    with step("download", settings, pipeline_run) as here:
        outcome = run(here, Path(corpus.path))
    return outcome.decision, outcome.fingerprint
