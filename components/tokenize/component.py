from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def tokenize(
    settings: str,
    pipeline_run: str,
    tokens_key: str,
    corpus: dsl.Input[dsl.Dataset],
    tokens: dsl.Output[dsl.Dataset],
):
    """Trains or loads a tokenizer and writes every split as an array of token ids.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the id of the pipeline run.
        tokens_key: the reuse key of the tokens.
        corpus: the corpus.
        tokens: an array and the offsets of the articles for each split, and the tokenizer.
    """
    from pathlib import Path

    from components.shared.runtime.step import step
    from components.tokenize.run import run

    with step("tokenize", settings, pipeline_run) as here:
        run(here, tokens_key, Path(corpus.path), Path(tokens.path))
