from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def sweep(
    space: list, sampler: str, trials: int, at_once: int, seed: int, round_number: int, pipeline_run: str
) -> list:
    """Ends the trials of the last round of a sweep, and suggests those of the next one.

    Args:
        space: the settings that vary, each `section.key=[value, value]`.
        sampler: `grid`, `random` or `optuna`.
        trials: the number of trials in all.
        at_once: the number of trials in a round.
        seed: the seed of the sampler.
        round_number: the round, from 0.
        pipeline_run: the id of the pipeline run.

    Returns:
        The trials of the round, each as JSON.
    """
    from components.shared.runtime.step import step
    from components.sweep.run import Sweep, run
    from components.sweep.space import parse_space

    with step("sweep", "{}", pipeline_run) as here:
        return run(here, Sweep(parse_space(space), sampler, trials, at_once, seed), round_number)
