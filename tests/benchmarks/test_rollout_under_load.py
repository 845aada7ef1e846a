"""What the benchmark of a promotion counts."""

from tests.benchmarks.rollout_under_load import summary
from tests.rollout import Request


def test_failures_unnamed_answers_and_answers_by_the_damaged_version_are_counted() -> None:
    requests = [Request(100 + 0.1 * index, "wikigpt/1", True, 10 + index) for index in range(100)]
    requests += [Request(110, None, False, 500), Request(110, None, True, 1), Request(110, "wikigpt/3", True, 1)]
    found = summary(requests, 10)
    assert (found["requests"], found["seconds"], found["requests_a_second"]) == (103, 10, 10.3)
    assert (found["failed_requests"], found["answers_without_a_version"]) == (1, 2)
    assert (found["answers_by_version_1"], found["answers_by_the_damaged_version"]) == (100, 1)
    assert (found["p50_milliseconds"], found["p99_milliseconds"]) == (59, 109)
