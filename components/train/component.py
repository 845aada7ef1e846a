from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def train(
    settings: str,
    pipeline_run: str,
    fingerprint: str,
    tokens: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
):
    """Trains the model, from scratch or from pretrained weights; goes on from the last checkpoint of the fingerprint.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the identity of the pipeline run.
        fingerprint: of the training.
        tokens: the packed splits and their tokenizer.
        model: a Hugging Face folder with the best weights, and the curve of the training.
    """
    from pathlib import Path

    from components.shared.step import step
    from components.train.run import run

    with step("train", settings, pipeline_run) as here:
        run(here, fingerprint, Path(tokens.path), Path(model.path))
