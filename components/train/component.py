from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def train(
    settings: str,
    pipeline_run: str,
    reuse_key: str,
    reuse_level: str,
    tokens: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
):
    """Trains the model, from scratch or from pretrained weights; resumes from the last checkpoint of the model key.

    Args:
        settings: the settings of the run, as JSON.
        pipeline_run: the id of the pipeline run.
        reuse_key: the model key.
        reuse_level: the most useful artifact that exists for the model key, or `forced` to ignore all.
        tokens: the token ids of the splits, and their tokenizer.
        model: a Hugging Face folder with the best weights and the loss curve of the training.
    """
    from pathlib import Path

    from components.shared.runtime.step import step
    from components.train.run import run

    with step("train", settings, pipeline_run) as here:
        run(here, reuse_key, Path(tokens.path), Path(model.path), reuse_level=reuse_level)
