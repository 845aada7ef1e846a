"""The DAG of a sweep: rounds of trials, each round as a loop whose iterations run side by side."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.download.component import download
from components.sweep.component import sweep
from components.tokenize.component import tokenize
from components.train.component import train
from components.validate.component import validate
from pipelines.config.parameters import RunParameters, TrainPod
from pipelines.config.settings import profile_names
from pipelines.steps import SWEEP, TITLES
from pipelines.training import Placement, no_placement, offer_choices

_TITLE = "End the last trials and choose the next"


def build_sweep(
    defaults: RunParameters,
    pod: TrainPod,
    *,
    rounds: int,
    at_once: int,
    placement: Placement = no_placement,
    config: dsl.PipelineConfig | None = None,
) -> GraphComponent:
    """Builds the pipeline of a sweep. KFP has no loop that ends by a condition, so every round is part of the pipeline.

    Args:
        defaults: the parameters of a sweep that is started without any.
        pod: the hardware of the train step.
        rounds: the number of rounds; a sampler learns between them.
        at_once: the number of trials in a round, which run side by side.
        placement, config: see `pipelines.training.build`.
    """

    @dsl.pipeline(name=SWEEP, display_name="Sweep settings of Wiki-GPT", pipeline_config=config)
    def trials_in_rounds(
        space: list[str],
        sampler: str = "optuna",
        trials: int = rounds * at_once,
        sampler_seed: int = 0,
        profile: str = defaults.profile,
        corpus: str = defaults.corpus,
        seed: int = defaults.seed,
        overrides: list[str] = defaults.overrides,
    ):
        """Trains a model for each of several settings, and compares them on validation. Nothing is registered.

        Args:
            space: The settings that vary, each with its values, as in ["train.learning_rate=[0.004, 0.008]"].
            sampler: grid, random, or optuna, which learns from the trials of earlier rounds.
            trials: The number of trials; the pipeline has room for at most its rounds.
            sampler_seed: The seed of the sampler.
            profile: The settings from which every trial starts.
            corpus: As in a run of one training. Leave it empty for the corpus of the profile.
            seed: The seed of each training; -1 stands for the seed of the profile.
            overrides: Further settings of all trials, each as "section.key=value".
        """
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER

        def fetch(trial: object) -> dsl.PipelineTask:
            return placed("download", download)(
                profile=profile,
                corpus_source=corpus,
                seed=seed,
                force=False,
                overrides=overrides,
                train_gpus=pod.gpus,
                train_cores=pod.cores,
                pipeline_run=run,
                trial=trial,
            )

        def placed(step: str, component: dsl.base_component.BaseComponent):
            def make(**inputs: object) -> dsl.PipelineTask:
                task = component(**inputs).set_display_name(TITLES.get(step, _TITLE)).set_caching_options(False)
                # The step of the sweep itself is as light as a download.
                placement(task, step if step in TITLES else "download")
                return task

            return make

        first = fetch("")
        before = placed("validate", validate)(
            settings=first.outputs["settings"], pipeline_run=run, corpus=first.outputs["corpus"]
        )
        for number in range(rounds + 1):
            chosen = placed("sweep", sweep)(
                space=space,
                sampler=sampler,
                trials=trials,
                at_once=at_once,
                seed=sampler_seed,
                round_number=number,
                pipeline_run=run,
            ).after(before)
            if number:  # a trial that fails, as by a learning rate too large, does not end the sweep
                chosen.ignore_upstream_failure()
            if number == rounds:
                break
            with dsl.ParallelFor(chosen.output, name=f"round-{number}") as trial:
                fetched = fetch(trial)
                tokenized = placed("tokenize", tokenize)(
                    settings=fetched.outputs["settings"],
                    pipeline_run=fetched.outputs["run_id"],
                    tokens_key=fetched.outputs["tokens_key"],
                    corpus=fetched.outputs["corpus"],
                )
                before = placed("train", train)(
                    settings=fetched.outputs["settings"],
                    pipeline_run=fetched.outputs["run_id"],
                    reuse_key=fetched.outputs["reuse_key"],
                    reuse_level=fetched.outputs["reuse_level"],
                    tokens=tokenized.outputs["tokens"],
                )

    offer_choices(trials_in_rounds, "profile", profile_names())
    return trials_in_rounds
