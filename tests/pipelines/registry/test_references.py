"""Valid and invalid references to a version."""

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import ExitCode, Failure
from pipelines.registry.references import is_default, resolve
from tests.registry import make_version


@pytest.fixture
def two_models(client: MlflowClient) -> MlflowClient:
    for _ in range(2):
        make_version(client, "wikigpt", 5.0)
    for _ in range(3):
        make_version(client, "wikigpt-sample", 6.0)
    client.set_registered_model_alias("wikigpt", "champion", "2")
    client.set_registered_model_alias("wikigpt-sample", "champion", "3")
    return client


@pytest.mark.parametrize(
    ("reference", "model", "expected"),
    [
        ("1", None, ("wikigpt", "1")),
        ("01", None, ("wikigpt", "1")),
        ("champion", None, ("wikigpt", "2")),
        ("@champion", "wikigpt-sample", ("wikigpt-sample", "3")),
        ("models:/wikigpt-sample/2", None, ("wikigpt-sample", "2")),
        ("models:/wikigpt-sample@champion", None, ("wikigpt-sample", "3")),
    ],
)
def test_a_version_is_found_however_it_is_named(
    two_models: MlflowClient, reference: str, model: str | None, expected: tuple[str, str]
) -> None:
    found = resolve(two_models, reference, model)
    assert (found.name, str(found.version)) == expected


@pytest.mark.parametrize(
    ("reference", "model", "sentence"),
    [
        ("champoin", None, "There is no alias 'champoin' on wikigpt .*name one that exists: wikigpt has champion"),
        ("3", None, "wikigpt has no version 3 .*wikigpt has 1, 2; for version 3 of wikigpt-sample, add --model"),
        ("9", None, r"wikigpt has no version 9 .*wikigpt has 1, 2\.$"),
        ("1", "wikigtp", "There is no model 'wikigtp' .*did you mean wikigpt"),
        ("models:/wikigpt-sample/1", "wikigpt", "is a version of wikigpt-sample, not of wikigpt"),
        ("models:/wikigpt", None, "models:/wikigpt is not a reference to a version"),
    ],
)
def test_a_wrong_name_is_one_sentence(
    two_models: MlflowClient, reference: str, model: str | None, sentence: str
) -> None:
    with pytest.raises(Failure, match=sentence) as raised:
        resolve(two_models, reference, model)
    assert raised.value.exit_code == ExitCode.USAGE


def test_an_empty_registry_says_so(client: MlflowClient) -> None:
    with pytest.raises(Failure, match=r"The registry has no model .*train one by `wikigpt run`"):
        resolve(client, "champion")


def test_a_model_is_the_default_if_it_is_wikigpt_or_the_only_one(client: MlflowClient) -> None:
    make_version(client, "wikigpt-a", 5.0)
    assert is_default(client, "wikigpt-a")
    make_version(client, "wikigpt-b", 5.0)
    assert not is_default(client, "wikigpt-a")
    assert not is_default(client, "wikigpt-b")
    make_version(client, "wikigpt", 5.0)
    assert is_default(client, "wikigpt")


def test_of_several_models_without_a_default_a_person_chooses(client: MlflowClient) -> None:
    make_version(client, "wikigpt-a", 5.0)
    assert resolve(client, "1").name == "wikigpt-a"
    make_version(client, "wikigpt-b", 5.0)
    with pytest.raises(Failure, match=r"Several models .*choose one by --model: wikigpt-a, wikigpt-b"):
        resolve(client, "1")
