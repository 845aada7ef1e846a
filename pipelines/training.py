"""The DAG: WikiText-2 in, a registered language model out."""

from collections.abc import Callable

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
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


def anywhere(task: dsl.PipelineTask, step: str) -> None:
    """Asks nothing of the place where a task runs."""


def build_reproduction() -> GraphComponent:
    """The steps up to the training, as `wikigpt reproduce` runs them: nothing is judged, registered or announced."""

    @dsl.pipeline(name=f"{NAME}-reproduction")
    def reproduction(settings: str):
        """Trains a language model.

        Args:
            settings: the settings of the run as one JSON string.
        """
        run = {"settings": settings, "pipeline_run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        keys = download(**run).outputs
        packed = tokenize(**run, tokens_key=keys["tokens_key"], corpus=keys["corpus"])
        train(**run, reuse_key=keys["reuse_key"], tokens=packed.outputs["tokens"])

    return reproduction


def build(
    default_settings: str | None = None, *, place: Placement = anywhere, config: dsl.PipelineConfig | None = None
) -> GraphComponent:
    """The pipeline, the same wherever it runs.

    Args:
        default_settings: the settings of a run that is started without any, JSON.
        place: called with each task and the name of its step, to say where and with what it runs on a cluster.
        config: deadline and the like of the whole run.
    """

    def do(step: BaseComponent, **inputs: object) -> dsl.PipelineTask:
        # KFP's cache knows neither our code nor our data: reuse goes by content, in the store.
        task = step(**inputs).set_display_name(TITLES[step.name]).set_caching_options(False)
        place(task, step.name)
        return task

    @dsl.pipeline(name=NAME, display_name="Train Wiki-GPT", pipeline_config=config)
    def training(settings: str = default_settings):  # type: ignore[assignment]
        """Trains, judges and registers a language model.

        1. download: fetch the corpus, check its digests, decide between `train` and `skip`
        2. validate: hold the corpus against its expectations
        3. tokenize: train a BPE or take a pretrained tokenizer, pack the splits
        4. train: from scratch or from pretrained weights, resumably
        5. evaluate: perplexity, bits per byte and BLEU, beside the champion's
        6. register: one version per digest of weights, champion or challenger
        7. notify: report how the run ended, whatever happened

        Args:
            settings: the settings of the run as one JSON string, since KFP turns the integers of a dict into floats.
        """
        run = {"settings": settings, "pipeline_run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        notice = do(notify, **run)
        with dsl.ExitHandler(notice, name="train-and-tell"):
            source = do(download, **run)
            corpus, keyed = source.outputs["corpus"], {**run, "reuse_key": source.outputs["reuse_key"]}
            with dsl.If(source.outputs["Output"] == "train", name="training-is-due"):
                checked = do(validate, **run, corpus=corpus)
                packed = do(tokenize, **run, tokens_key=source.outputs["tokens_key"], corpus=corpus).after(checked)
                trained = do(train, **keyed, tokens=packed.outputs["tokens"])
                model = trained.outputs["model"]
                judged = do(evaluate, **run, corpus=corpus, model=model)
                evaluation, report = judged.outputs["evaluation"], judged.outputs["report"]
                do(register, **keyed, corpus=corpus, model=model, evaluation=evaluation, report=report)

    return training
