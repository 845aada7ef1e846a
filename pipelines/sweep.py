"""The DAG of a sweep: rounds of trials, each round as a loop whose iterations run side by side."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from components.sweep.component import sweep
from components.validate.component import validate
from pipelines.config.parameters import RunParameters, TrainPod
from pipelines.config.settings import profile_names
from pipelines.steps import SWEEP
from pipelines.training import (
    Placement,
    add_download,
    add_tokenize_and_train,
    no_placement,
    offer_choices,
    place,
)


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
        request = {"profile": profile, "corpus": corpus, "seed": seed, "force": False, "overrides": overrides}
        first = add_download(pod, request)
        place(first, "download", placement)
        before = validate(settings=first.outputs["settings"], pipeline_run=run, corpus=first.outputs["corpus"])
        place(before, "validate", placement)
        for number in range(rounds + 1):
            chosen = sweep(
                space=space,
                sampler=sampler,
                trials=trials,
                at_once=at_once,
                seed=sampler_seed,
                round_number=number,
                pipeline_run=run,
            ).after(before)
            place(chosen, "download", placement)  # it is as light
            chosen.set_display_name("End the last trials and choose the next")
            if number:  # a trial that fails, as by a learning rate too large, does not end the sweep
                chosen.ignore_upstream_failure()
            if number == rounds:
                break
            with dsl.ParallelFor(chosen.output, name=f"round-{number}") as trial:
                fetched = add_download(pod, request, trial)
                tokenized, before = add_tokenize_and_train(fetched)
                for step, task in {"download": fetched, "tokenize": tokenized, "train": before}.items():
                    place(task, step, placement)

    offer_choices(trials_in_rounds, "profile", profile_names())
    return trials_in_rounds
