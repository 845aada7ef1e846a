"""The smoke test of a new server: what it answers and its latency, before it gets traffic.

If the server gives log-probabilities, those of a passage are compared with what was recorded with the version
(`components/register/completions.py`). Otherwise its completions are compared with the recorded ones. An engine adds
numbers in another order and often in another precision, so that two equally probable tokens may change places and
everything after them differs. A completion therefore agrees if it begins as the recorded one does, up to a share of its
length, and a share of the completions must agree. Damaged weights change the first tokens of nearly all.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from components.shared.base.failure import Failure
from components.shared.base.ranges import Range, check_ranges
from components.shared.model.registered_model import recorded_completions
from pipelines.serving.completions import NAME, Answer, ServerFailure, complete, nll_per_token

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

_PROMPT, _TOKENS = "The", 16  # of a version without recorded completions
_ROUNDS, _FEWEST = 3, 3  # of the timing, and of requests in a round


@dataclass(frozen=True)
class Completion:
    """A prompt and its greedy continuation."""

    prompt: str
    text: str


@dataclass(frozen=True)
class Expected:
    """What was recorded with a version.

    Attributes:
        completions: the completions; none for a version of an earlier release.
        max_tokens: the maximum number of new tokens of each.
        passage: a text; "" if none was recorded.
        nll_per_token: its mean negative log-likelihood in nats.
    """

    completions: tuple[Completion, ...] = ()
    max_tokens: int = _TOKENS
    passage: str = ""
    nll_per_token: float = 0.0

    @classmethod
    def of(cls, client: RegistryReader, version: AnyVersion) -> Expected:
        """Reads the completions of a version.

        Raises:
            Failure: their file is damaged.
        """
        try:
            if (content := recorded_completions(client, version)) is None:
                return cls()
            recorded = json.loads(content)
            made = tuple(Completion(str(each["prompt"]), str(each["text"])) for each in recorded["completions"])
            passage = recorded.get("passage") or {"text": "", "nll_per_token": 0}
            return cls(made, int(recorded["max_tokens"]), str(passage["text"]), float(passage["nll_per_token"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Failure(
                f"The completions that were recorded with the version cannot be read: {error}",
                where=f"models:/{version.name}/{version.version}",
                remedy="restore the artifacts of MLflow from a backup, or use another version",
            ) from error


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a new server must keep.

    Attributes:
        agreeing: the share of the completions that must agree with the recorded ones.
        prefix: the share of the characters of a completion, from its beginning, that must be equal.
        nats: the largest difference of the negative log-likelihood per token of the passage; 0.05 is 5 % of perplexity.
        p99_ratio: the highest p99 latency, as a multiple of that of the server that it replaces.
        p99_seconds: the highest p99 latency in seconds, which takes the place of the comparison; None compares.
        noise: a difference of this many seconds to the other server is none.
        requests: the number of requests that are timed, and of the other server as many.
        seconds: the time after which fewer requests suffice.
        timeout: the seconds to wait for an answer.
    """

    agreeing: Annotated[float, Range(0, 1)] = 0.5
    prefix: Annotated[float, Range(0, 1)] = 0.5
    nats: Annotated[float, Range(0, 100)] = 0.05
    p99_ratio: Annotated[float, Range(0.01, 1000)] = 1.1
    p99_seconds: Annotated[float | None, Range(0.001, 3600)] = None
    noise: Annotated[float, Range(0, 3600)] = 0.05
    requests: Annotated[int, Range(1, 10_000)] = 20
    seconds: Annotated[float, Range(0, 3600)] = 5.0
    timeout: Annotated[float, Range(0.1, 3600)] = 60.0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class SmokeResult:
    """The outcome of a smoke test.

    Attributes:
        compared: the number of completions that were compared.
        agreed: how many of them agree with the recorded ones.
        difference: nats per token between the server and the record; None if the server gives no log-probabilities.
        p99: the p99 latency in seconds; None if the answers are wrong, and nothing was timed.
        p99_before: that of the server that it replaces; None if it was not compared.
        problem: why the server must not get traffic, as the start of a sentence; None if it may.
    """

    compared: int = 0
    agreed: int = 0
    difference: float | None = None
    p99: float | None = None
    p99_before: float | None = None
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None


def smoke_test(
    endpoint: str,
    expected: Expected,
    limits: Limits,
    *,
    before: str | None = None,
    model: str = NAME,
    between: Callable[[], object] = lambda: None,
) -> SmokeResult:
    """Compares the completions of a server with the recorded ones, and its latency with that of another server.

    Args:
        endpoint: the address of the new server, such as http://127.0.0.1:8000.
        expected: the completions that were recorded with its version.
        limits: what it must keep.
        before: the address of the server that it replaces; None if there is none, or the latency has a limit.
        model: the name of the model that both servers know.
        between: called between two requests. An exception that it raises ends the test.
    """

    def ask(address: str, prompt: str) -> Answer:
        between()
        return complete(address, prompt, expected.max_tokens, model=model, timeout=limits.timeout)

    try:
        difference = _difference(endpoint, expected, model, limits)
        if difference is not None:
            result = SmokeResult(difference=difference)
            if not abs(difference) <= limits.nats:
                what = f"The passage has {difference:+.3f} nats per token by its log-probabilities"
                return replace(result, problem=f"{what}, and at most ±{limits.nats:g} to what was recorded is allowed")
        else:
            texts = [(ask(endpoint, each.prompt).text, each.text) for each in expected.completions]
            result = SmokeResult(len(texts), sum(agrees(*each, limits.prefix) for each in texts))
            if result.agreed < limits.agreeing * result.compared:
                what = f"Only {result.agreed} of {result.compared} completions begin as those that were recorded"
                return replace(result, problem=f"{what} with the version")
        prompts = [each.prompt for each in expected.completions] or [_PROMPT]
        return _timed(ask, endpoint, before, prompts, limits, result)
    except ServerFailure as failure:  # no other one, because one of `between` says nothing about this server
        return SmokeResult(problem=failure.what)


def _difference(endpoint: str, expected: Expected, model: str, limits: Limits) -> float | None:
    if not expected.passage:
        return None
    nll = nll_per_token(endpoint, expected.passage, model=model, timeout=limits.timeout)
    return None if nll is None else nll - expected.nll_per_token


def agrees(made: str, recorded: str, prefix: float) -> bool:
    """Whether a text begins as the recorded one, up to a share of its characters; white space counts as one blank."""
    made, recorded = " ".join(made.split()), " ".join(recorded.split())
    return made.startswith(recorded[: math.ceil(prefix * len(recorded))]) if recorded else not made


def _timed(
    ask: Callable[[str, str], Answer],
    endpoint: str,
    before: str | None,
    prompts: Sequence[str],
    limits: Limits,
    result: SmokeResult,
) -> SmokeResult:
    """Times both servers in turn, up to three times, because other work on the machine may spoil a round."""
    for _ in range(_ROUNDS):
        ours, theirs = [], []
        until = time.monotonic() + limits.seconds
        for index in range(limits.requests):
            if index >= _FEWEST and time.monotonic() > until:
                break
            prompt = prompts[index % len(prompts)]
            ours.append(ask(endpoint, prompt).seconds)
            if before is not None and limits.p99_seconds is None:
                with suppress(ServerFailure):  # of the other server, which says nothing against this one
                    theirs.append(ask(before, prompt).seconds)
        p99, p99_before = percentile(ours, 0.99), percentile(theirs, 0.99) if theirs else None
        problem = _too_slow(p99, p99_before, limits)
        result = replace(result, p99=p99, p99_before=p99_before, problem=problem)
        if problem is None:
            break
    return result


def _too_slow(p99: float, before: float | None, limits: Limits) -> str | None:
    if limits.p99_seconds is not None:
        over = p99 > limits.p99_seconds
        return f"Its p99 latency is {p99:.3f} s, above the limit of {limits.p99_seconds:g} s" if over else None
    if before is None or p99 <= max(limits.p99_ratio * before, before + limits.noise):
        return None
    return f"Its p99 latency is {p99:.3f} s, above {limits.p99_ratio:g} times the {before:.3f} s of the version before"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
