"""Chooses the next trials of a sweep: a grid in its order, or a sampler of Optuna that learns from earlier trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import safe_repr
from components.sweep.space import Dimension, grid

if TYPE_CHECKING:
    from components.sweep.trials import Trial

SAMPLERS = ("grid", "random", "optuna")
_DRAWS = 50  # attempts to draw settings that were not tried yet


def require_sampler(name: str) -> None:
    """Checks the name of a sampler.

    Raises:
        Failure: there is no such sampler.
    """
    if name not in SAMPLERS:
        raise Failure(
            f"There is no sampler {safe_repr(name)}",
            where="--by",
            remedy=f"give one of {', '.join(SAMPLERS)}",
            exit_code=ExitCode.USAGE,
        )


def suggest(
    space: tuple[Dimension, ...], sampler: str, tried: Sequence[Trial], *, count: int, seed: int
) -> list[dict[str, Any]]:
    """The settings of the next trials: at most `count`, and fewer where everything was tried.

    Args:
        space: the settings that vary.
        sampler: one of `SAMPLERS`; `optuna` is its tree-structured Parzen estimator.
        tried: the earlier trials. Those that failed are not repeated.
        count: the number of trials.
        seed: the seed of the sampler.

    Raises:
        Failure: there is no such sampler.
    """
    require_sampler(sampler)
    known = [trial.values for trial in tried]
    if sampler == "grid":
        return [values for values in grid(space) if values not in known][:count]
    return _drawn(space, sampler, tried, count=count, seed=seed)


def _drawn(
    space: tuple[Dimension, ...], sampler: str, tried: Sequence[Trial], *, count: int, seed: int
) -> list[dict[str, Any]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed += len(tried)  # each call makes a new sampler, which must not repeat the draws of the last one
    chosen_sampler = (
        optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(4, 2 * len(space)))
        if sampler == "optuna"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    study = optuna.create_study(sampler=chosen_sampler)
    distributions = {dimension.setting: dimension.distribution() for dimension in space}
    for trial in tried:
        if trial.word_perplexity is not None:
            study.add_trial(
                optuna.trial.create_trial(params=trial.values, distributions=distributions, value=trial.word_perplexity)
            )
    known = [trial.values for trial in tried]
    found: list[dict[str, Any]] = []
    for _ in range(_DRAWS * count):
        if len(found) == count:
            break
        values = {name: _rounded(value) for name, value in study.ask(distributions).params.items()}
        if values not in known and values not in found:
            found.append(values)
    return found


def _rounded(value: Any) -> Any:
    """Four digits suffice for a setting, and people can copy them."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
