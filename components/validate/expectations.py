"""Runs the checks as suites of Great Expectations over the tables, and describes the results in plain words."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import Failure
from components.validate.checks import Check
from components.validate.results import Result

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = 5
_OF_CHARACTERS = ("damaged", "invisible")
_KINDS = {
    "columns": "ExpectTableColumnsToMatchOrderedList",
    "rows": "ExpectTableRowCountToBeBetween",
    "sum": "ExpectColumnSumToBeBetween",
    "mean": "ExpectColumnMeanToBeBetween",
    "max": "ExpectColumnMaxToBeBetween",
    "share": "ExpectColumnValuesToBeInSet",
}


def run_checks(checks: Sequence[Check], tables: Mapping[tuple[str, str], pd.DataFrame]) -> list[Result]:
    """Runs the checks, one suite for each table, and returns their results in the order of the checks.

    Args:
        checks: the expectations.
        tables: the tables by split and name. If the columns of a table are not the expected ones, only that expectation
            is checked.
    """
    with _quiet():
        import great_expectations as gx

        context: Any = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        results: dict[Check, Result] = {}
        for (split, name), group in groupby(sorted(checks, key=_table_of), key=_table_of):
            table = tables[split, name]
            results |= _run_suite(context, f"{split} {name}", table, _measurable(list(group), table))
    return [results[check] for check in checks if check in results]


def _table_of(check: Check) -> tuple[str, str]:
    return check.split, check.table


def _measurable(checks: list[Check], table: pd.DataFrame) -> list[Check]:
    """Returns the checks of a table, or only those of its columns if these fail: others would raise an exception."""
    of_columns = [check for check in checks if check.measure == "columns"]
    good = all(list(table.columns) == check.column.split() for check in of_columns)
    return checks if good else of_columns


def _run_suite(context: Any, name: str, table: pd.DataFrame, checks: list[Check]) -> dict[Check, Result]:
    import great_expectations as gx

    batch = context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    expectations = [_expectation(check, number) for number, check in enumerate(checks)]
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    identified = "title" if "title" in table.columns else "line"
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            result_format={
                "result_format": "SUMMARY",
                "partial_unexpected_count": _EXAMPLES,
                **({"unexpected_index_column_names": [identified]} if identified in table.columns else {}),
            },
        )
    )
    (outcome,) = checkpoint.run(batch_parameters={"dataframe": table}).run_results.values()
    answers = [(checks[answer.expectation_config.meta["check"]], answer) for answer in outcome.results]
    for check, answer in answers:
        _raise_if_unanswered(check, answer)
    return {check: _result(check, answer, table) for check, answer in answers}


def _raise_if_unanswered(check: Check, answer: Any) -> None:
    """Raises a failure if an expectation could not be computed, for example because memory ran out.

    Raises:
        Failure: Great Expectations caught an exception. It reports one exception, or one for each metric.
    """
    caught = answer.exception_info or {}
    for each in [caught] if "raised_exception" in caught else caught.values():
        if each["raised_exception"]:
            raise Failure(
                f"The expectation {check.name!r} of {check.split} could not be computed: {each['exception_message']}",
                where="step validate",
                remedy="run again, with more memory if it ran out; the traceback is in the log",
            )


def _expectation(check: Check, number: int) -> Any:
    import great_expectations.expectations as gxe

    arguments: dict[str, Any] = {
        "meta": {"check": number, "name": check.name},
        "severity": "critical" if check.severity == "error" else "warning",
    }
    if check.measure == "columns":
        arguments["column_list"] = check.column.split()
    elif check.measure == "share":
        arguments |= {"column": check.column, "value_set": [0.0], "mostly": 1.0 - (check.high or 0.0)}
    else:
        arguments |= {"min_value": check.low, "max_value": check.high}
        arguments |= {"column": check.column} if check.column else {}
    return getattr(gxe, _KINDS[check.measure])(**arguments)


def _result(check: Check, answer: Any, table: pd.DataFrame) -> Result:
    observed, seen = _seen(check, answer.result)
    return Result(
        split=check.split,
        name=check.name,
        table=check.table,
        column=check.column,
        severity=check.severity,
        setting=check.setting,
        expectation=_KINDS[check.measure],
        success=bool(answer.success),
        observed=observed,
        low=check.low,
        high=check.high,
        seen=seen,
        wanted=wanted(check),
        examples=() if answer.success else _examples(check, answer.result, table),
    )


def _seen(check: Check, answer: Mapping[str, Any]) -> tuple[float | None, str]:
    if check.measure == "share" and "element_count" in answer:
        asked = answer["element_count"] - answer["missing_count"]
        share = answer["unexpected_count"] / asked if asked else 0.0
        return share, f"{answer['unexpected_count']:,} of {asked:,} {check.unit}"
    value = answer.get("observed_value")
    if check.measure == "columns" and value is not None:
        return float(len(value)), f"{len(value)} columns: {' '.join(map(str, value))}"
    if value is None or not math.isfinite(value):
        return None, "nothing that can be measured"
    return float(value), _amount(float(value), check)


def wanted(check: Check) -> str:
    """Describes the required value."""
    if check.measure == "columns":
        return f"{len(check.column.split())} columns: {check.column}"
    if check.low == check.high:
        return f"exactly {_amount(check.high or 0.0, check)}"
    if check.low is not None and check.high is not None:
        return f"{_number(check.low)} to {_amount(check.high, check)}"
    if check.low is not None:
        return f"at least {_amount(check.low, check)}"
    if not check.high:
        return "none"
    return f"at most {_percent(check.high) if check.measure == 'share' else _amount(check.high, check)}"


def _amount(value: float, check: Check) -> str:
    if check.unit.startswith("of "):
        return f"{_percent(value)} {check.unit}"
    return f"{_number(value)} {check.unit}".strip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _examples(check: Check, answer: Mapping[str, Any], table: pd.DataFrame) -> tuple[str, ...]:
    if check.measure == "share":
        rows = answer.get("partial_unexpected_index_list") or []
    elif check.measure == "sum" and check.high == 0:
        rows = [row for _, row in table[table[check.column] > 0].head(_EXAMPLES).iterrows()]
    elif check.measure == "max" and check.table != "statistics" and len(table):
        rows = [table.loc[table[check.column].idxmax()]]
    else:
        rows = []
    return tuple(_place(row, check, table) for row in rows)


def _place(row: Any, check: Check, table: pd.DataFrame) -> str:
    if "line" in row:
        number = int(row["line"])
        odd = table["odd"].iat[number - 1] if check.column in _OF_CHARACTERS else ""
        return f"line {number:,}" + (f" has {odd}" if odd else "")
    twin = row.get("twin")
    return f"{str(row['title'] or 'text without a title')!r}" + (f" (compare {twin})" if twin else "")


@contextmanager
def _quiet() -> Iterator[None]:
    """Switches off the telemetry of Great Expectations, and hides its warnings and those of its imports."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when it is imported
    logger = logging.getLogger("great_expectations")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
