"""The settings that a sweep varies, each with its candidate values or its range."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import safe_repr

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Dimension:
    """A setting that a sweep varies.

    Attributes:
        setting: its name, `section.key`.
        values: the values that a grid tries. A sampler takes two numbers as the ends of a range.
    """

    setting: str
    values: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The dimension as `parse_space` reads it."""
        return f"{self.setting}={json.dumps(list(self.values))}"

    def distribution(self) -> BaseDistribution:
        """The values that a sampler of Optuna draws from: a range between two numbers, else the values alone.

        A range of fractions above zero is searched on a logarithmic scale.
        """
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) != 2 or len(self.values) != 2 or numbers[0] == numbers[1]:
            return CategoricalDistribution(self.values)
        low, high = sorted(numbers)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high)
        return FloatDistribution(float(low), float(high), log=low > 0)


def parse_space(texts: list[str]) -> tuple[Dimension, ...]:
    """The dimensions of a sweep.

    Args:
        texts: each `section.key=[value, value, …]`, in YAML.

    Raises:
        Failure: one is no list of plain values, a setting comes twice, or there is none.
    """
    dimensions: dict[str, Dimension] = {}
    for text in texts:
        setting, _, given = text.partition("=")
        setting = setting.strip()
        try:
            values = yaml.safe_load(given)
        except yaml.YAMLError:
            values = None
        if not isinstance(values, list) or not values or any(isinstance(each, dict | list) for each in values):
            raise _wrong(f"Cannot read the values of a sweep in {safe_repr(text)}", "write section.key=[value, value]")
        if setting in dimensions:
            raise _wrong(f"The sweep varies {safe_repr(setting)} twice", "give all its values in one list")
        dimensions[setting] = Dimension(setting, tuple(map(_number, values)))
    if not dimensions:
        raise _wrong("The sweep varies no setting", "give one a list, as in train.learning_rate=[4e-3, 8e-3]")
    return tuple(dimensions.values())


def grid(space: tuple[Dimension, ...]) -> list[dict[str, Any]]:
    """All combinations of the values, by setting; the last setting varies fastest."""
    names = [dimension.setting for dimension in space]
    return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*(each.values for each in space))]


def _number(value: Any) -> Any:
    """YAML 1.1 takes `4e-3` as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _wrong(what: str, remedy: str) -> Failure:
    return Failure(what, where="the space of the sweep", remedy=remedy, exit_code=ExitCode.USAGE)
