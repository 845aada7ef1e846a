"""The DAG: WikiText-2 in, a registered language model out."""

from collections.abc import Callable

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.download.component import download
from components.evaluate.component import evaluate
from components.notify.component import notify
from components.register.component import register
from components.tokenize.component import tokenize
from components.train.component import train
from components.validate.component import validate
from pipelines.steps import TITLES

NAME = "wikigpt"

Placement = Callable[[dsl.PipelineTask, str], object]


def no_placement(task: dsl.PipelineTask, step: str) -> None:
    """Leaves a task as it is: it asks for no image, resources or secrets."""


def build(
    default_settings: str | None = None,
    *,
    placement: Placement = no_placement,
    config: dsl.PipelineConfig | None = None,
) -> GraphComponent:
    """Builds the pipeline, which is the same on a laptop and on a cluster.

    Args:
        default_settings: JSON, used by a run that is started without settings.
        placement: a function that sets image, resources and secrets on a task, given the name of its step.
        config: the deadline and the retention of a whole run.
    """

    @dsl.pipeline(name=NAME, display_name="Train Wiki-GPT", pipeline_config=config)
    def training(settings: str = default_settings):  # type: ignore[assignment]
        """Trains, evaluates and registers a language model.

        1. download: fetch the corpus, check its digests, decide between `train` and `skip`
        2. validate: check the corpus against its expectations
        3. tokenize: train a BPE tokenizer or load a pretrained one, encode the splits
        4. train: from scratch or from pretrained weights, resumably
        5. evaluate: perplexity, bits per byte and BLEU, compared with the champion
        6. register: one version per digest of weights, champion or challenger
        7. notify: report the outcome, after success and failure

        Args:
            settings: the settings of the run as one JSON string, since KFP turns the integers of a dict into floats.
        """
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        notify_task = notify(settings=settings, pipeline_run=run)
        with dsl.ExitHandler(notify_task, name="train-and-notify"):
            download_task = download(settings=settings, pipeline_run=run)
            with dsl.If(download_task.outputs["Output"] == "train", name="training-is-due"):
                validate_task = validate(
                    settings=settings,
                    pipeline_run=run,
                    corpus=download_task.outputs["corpus"],
                )
                tokenize_task = tokenize(
                    settings=settings,
                    pipeline_run=run,
                    tokens_key=download_task.outputs["tokens_key"],
                    corpus=download_task.outputs["corpus"],
                ).after(validate_task)
                train_task = train(
                    settings=settings,
                    pipeline_run=run,
                    reuse_key=download_task.outputs["reuse_key"],
                    reuse_level=download_task.outputs["reuse_level"],
                    tokens=tokenize_task.outputs["tokens"],
                )
                evaluate_task = evaluate(
                    settings=settings,
                    pipeline_run=run,
                    corpus=download_task.outputs["corpus"],
                    model=train_task.outputs["model"],
                )
                register_task = register(
                    settings=settings,
                    pipeline_run=run,
                    reuse_key=download_task.outputs["reuse_key"],
                    corpus=download_task.outputs["corpus"],
                    model=train_task.outputs["model"],
                    evaluation=evaluate_task.outputs["evaluation"],
                    report=evaluate_task.outputs["report"],
                )
        for step, task in {
            "download": download_task,
            "validate": validate_task,
            "tokenize": tokenize_task,
            "train": train_task,
            "evaluate": evaluate_task,
            "register": register_task,
            "notify": notify_task,
        }.items():
            # KFP's cache knows neither our code nor our data: outputs are reused by content, from the store.
            task.set_display_name(TITLES[step]).set_caching_options(False)
            placement(task, step)

    return training


def build_reproduction() -> GraphComponent:
    """Builds the steps up to the training, as `wikigpt reproduce` runs them: nothing is evaluated or registered."""

    @dsl.pipeline(name=f"{NAME}-reproduction")
    def reproduction(settings: str):
        """Trains a language model.

        Args:
            settings: the settings of the run as one JSON string.
        """
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        download_task = download(settings=settings, pipeline_run=run)
        tokenize_task = tokenize(
            settings=settings,
            pipeline_run=run,
            tokens_key=download_task.outputs["tokens_key"],
            corpus=download_task.outputs["corpus"],
        )
        train(
            settings=settings,
            pipeline_run=run,
            reuse_key=download_task.outputs["reuse_key"],
            reuse_level=download_task.outputs["reuse_level"],
            tokens=tokenize_task.outputs["tokens"],
        )

    return reproduction
