"""The section `cluster`: the values that it accepts, and the messages for the others."""

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.settings import parse_section
from pipelines.config.cluster import STEPS, ClusterSettings, is_immutable
from pipelines.config.resources import StepResources, in_bytes

DIGEST = "registry.example/wikigpt@sha256:" + "a" * 64


def parse(**values):
    return parse_section(ClusterSettings, values, "cluster")


def test_a_step_that_is_given_in_part_keeps_its_other_defaults():
    train = parse(train={"gpus": 4}).train
    assert (train.gpus, train.memory_limit, train.timeout_seconds) == (4, "24Gi", 12 * 3600)


def test_every_step_has_a_place():
    assert all(isinstance(parse().resources_of(step), StepResources) for step in STEPS)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"trian": {}}, "did you mean cluster.train?"),
        ({"train": {"gpu": 1}}, "cluster.train.gpu: Unexpected keyword argument"),
        ({"train": {"cpu_request": "four"}}, "cpu_request must be cores, as in 500m or 4, got 'four'"),
        ({"train": {"cpu_request": "9"}}, "cpu_request must not be above cpu_limit 8, got 9"),
        ({"train": {"memory_request": "64Gi"}}, "memory_request must not be above memory_limit 24Gi, got 64Gi"),
        ({"train": {"memory_limit": "20 GB"}}, "memory_limit must be a quantity of memory, as in 8Gi, got '20 GB'"),
        ({"train": {"shared_memory": "24Gi"}}, "shared_memory must be below memory_limit 24Gi"),
        ({"train": {"retries": -1}}, "retries must be from 0 to 100, got -1; the nearest is 0"),
        ({"train": {"timeout_seconds": 0}}, "timeout_seconds must be from 1 to 2147483647, got 0; the nearest is 1"),
        (
            {"run_deadline_seconds": 3600},
            "must not be below the time-out of train, 43200, got 3600",
        ),
        ({"run_as_user": 0}, "run_as_user must not be 0"),
        ({"priority": "high"}, "priority needs a queue of Kueue, whose order it decides, got 'high' alone"),
        ({"queue": "GPU pool"}, "queue must be a name of Kubernetes, of at most 63 lower case letters,"),
        ({"gpu_tolerations": [{"key": "gpu", "operator": "Is"}]}, "operator must be Exists or Equal, got 'Is'"),
    ],
)
def test_a_wrong_value_is_one_sentence(values, sentence):
    with pytest.raises(Failure) as caught:
        parse(**values)
    assert sentence in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("image", "immutable"),
    [
        (DIGEST, True),
        ("registry.example:5000/team/wikigpt:1.2@sha256:" + "0" * 64, True),
        ("registry.example/wikigpt:1.2", False),
        ("wikigpt", False),
        ("wikigpt@sha256:abc", False),
        (DIGEST + "0", False),
        ("", False),
    ],
)
def test_only_a_digest_names_an_image_for_ever(image, immutable):
    assert is_immutable(image) is immutable


@pytest.mark.parametrize(("memory", "expected"), [("8Gi", 8 << 30), ("500M", 500_000_000), ("1024", 1024)])
def test_memory_in_bytes(memory, expected):
    assert in_bytes(memory) == expected
