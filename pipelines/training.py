"""The DAG: WikiText-2 in, a registered language model out."""

from collections.abc import Callable
from typing import Any

from google.protobuf.struct_pb2 import Value
from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.download.component import download
from components.evaluate.component import evaluate
from components.notify.component import notify
from components.register.component import register
from components.tokenize.component import tokenize
from components.train.component import train
from components.validate.component import validate
from pipelines.config.parameters import RunParameters, TrainPod
from pipelines.config.settings import profile_names
from pipelines.steps import NAME, TITLES

Placement = Callable[[dsl.PipelineTask, str], object]


def no_placement(task: dsl.PipelineTask, step: str) -> None:
    """Leaves a task as it is: it asks for no image, resources or secrets."""


def build(
    defaults: RunParameters,
    pod: TrainPod,
    *,
    placement: Placement = no_placement,
    config: dsl.PipelineConfig | None = None,
) -> GraphComponent:
    """Builds the pipeline, which is the same on a laptop and on a cluster.

    Args:
        defaults: the parameters of a run that is started without any.
        pod: the hardware of the train step.
        placement: a function that sets image, resources and secrets on a task, given the name of its step.
        config: the deadline and the retention of a whole run.
    """

    @dsl.pipeline(name=NAME, display_name="Train Wiki-GPT", pipeline_config=config)
    def training(
        profile: str = defaults.profile,
        corpus: str = defaults.corpus,
        seed: int = defaults.seed,
        force: bool = defaults.force,
        overrides: list[str] = defaults.overrides,
    ):
        """Trains, evaluates and registers a language model.

        1. download: fetch the corpus, check its digests, decide between `train` and `skip`
        2. validate: check the corpus against its expectations
        3. tokenize: train a BPE tokenizer or load a pretrained one, encode the splits
        4. train: from scratch or from pretrained weights, resumably
        5. evaluate: perplexity, bits per byte and BLEU, compared with the champion
        6. register: one version per digest of weights, champion or challenger
        7. notify: report the outcome, after success and failure

        Args:
            profile: The settings from which the run starts.
            corpus: wikitext-2-raw-v1, wikitext-2-v1, sample, an https:// archive, an s3:// prefix, or
                hf://OWNER/NAME. Leave it empty for the corpus of the profile.
            seed: The seed of the training; -1 stands for the seed of the profile.
            force: Train even if a version, a model or a checkpoint of these inputs exists.
            overrides: Further settings, each as "section.key=value", as in ["train.steps=3000"].
        """
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        notify_task = notify(profile=profile, overrides=overrides, pipeline_run=run)
        with dsl.ExitHandler(notify_task, name="train-and-notify"):
            request = {"profile": profile, "corpus": corpus, "seed": seed, "force": force, "overrides": overrides}
            download_task = add_download(pod, request)
            settings = download_task.outputs["settings"]
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
            place(task, step, placement)

    offer_choices(training, "profile", profile_names())
    return training


def place(task: dsl.PipelineTask, step: str, placement: Placement) -> None:
    """Sets what all tasks of a step have in common."""
    # KFP's cache knows neither our code nor our data: outputs are reused by content, from the store.
    task.set_display_name(TITLES[step]).set_caching_options(False)
    placement(task, step)


def offer_choices(pipeline: GraphComponent, parameter: str, choices: list[str]) -> None:
    """Makes the Kubeflow UI (2.17 or later) show a list of choices.

    kfp's compiler does not write them for `typing.Literal` yet (kubeflow/pipelines#14098).
    """
    spec = pipeline.pipeline_spec.root.input_definitions.parameters[parameter]
    spec.literals.extend(Value(string_value=choice) for choice in choices)


def build_until_train(pod: TrainPod) -> GraphComponent:
    """Builds the steps up to the training, for `wikigpt reproduce` and `sweep`: nothing is evaluated or registered.

    Args:
        pod: the hardware of the train step.
    """

    @dsl.pipeline(name=f"{NAME}-until-train")
    def until_train(profile: str, corpus: str, seed: int, force: bool, overrides: list[str]):
        """Trains a language model. The parameters are those of `build`."""
        request = {"profile": profile, "corpus": corpus, "seed": seed, "force": force, "overrides": overrides}
        add_tokenize_and_train(add_download(pod, request))

    return until_train


def add_download(pod: TrainPod, request: dict[str, Any], trial: Any = "") -> dsl.PipelineTask:
    """Adds the first step.

    Args:
        pod: the hardware of the train step.
        request: the parameters of the run by name.
        trial: the trial of a sweep, JSON.
    """
    return download(
        profile=request["profile"],
        corpus_source=request["corpus"],
        seed=request["seed"],
        force=request["force"],
        overrides=request["overrides"],
        train_gpus=pod.gpus,
        train_cores=pod.cores,
        pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        trial=trial,
    )


def add_tokenize_and_train(download_task: dsl.PipelineTask) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
    """Adds the steps from the corpus to the model, of a run that goes no further."""
    made = download_task.outputs
    tokenize_task = tokenize(
        settings=made["settings"], pipeline_run=made["run_id"], tokens_key=made["tokens_key"], corpus=made["corpus"]
    )
    train_task = train(
        settings=made["settings"],
        pipeline_run=made["run_id"],
        reuse_key=made["reuse_key"],
        reuse_level=made["reuse_level"],
        tokens=tokenize_task.outputs["tokens"],
    )
    return tokenize_task, train_task
