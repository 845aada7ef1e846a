"""The image of the steps: its metadata, its contents, and that it runs with the restrictions of a cluster."""

import json
import sys
from importlib.metadata import version

import pytest
from packaging.utils import canonicalize_name

from tests.docker.engine import CONFINED, REPOSITORY, REVISION, client, docker, image
from tests.docker.test_lock import pins

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LARGEST = 2_300_000_000
HEAVY = (
    *("components", "pipelines.training", "kfp", "boto3", "datasets", "great_expectations", "matplotlib.pyplot"),
    *("mlflow.transformers", "peft", "sacrebleu", "torch", "transformers"),
)


@pytest.fixture(scope="module")
def cpu() -> str:
    return image("cpu")


def python(name: str, program: str, *arguments: str) -> str:
    return docker("run", "--rm", "--network=none", *CONFINED, name, "python", "-c", program, *arguments)


def test_it_is_small_and_says_what_it_is(cpu: str) -> None:
    (about,) = json.loads(docker("image", "inspect", cpu))
    labels = about["Config"]["Labels"]
    assert about["Size"] <= LARGEST
    assert about["Config"]["User"] == "10001:10001"
    assert labels["org.opencontainers.image.version"] == version("wikigpt")
    assert labels["org.opencontainers.image.revision"] == REVISION
    assert f"WIKIGPT_COMMIT={REVISION}" in about["Config"]["Env"]


def test_everything_a_step_imports_is_there_with_its_byte_code(cpu: str) -> None:
    program = """
import importlib, pathlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
modules = [vars(module) for module in list(sys.modules.values())]
files = [module for module in modules if module.get("__cached__") and module["__file__"].endswith(".py")]
print(len(files), [module["__file__"] for module in files if not pathlib.Path(module["__cached__"]).is_file()])
"""
    loaded, bare = python(cpu, program, *HEAVY).splitlines()[-1].split(maxsplit=1)
    assert int(loaded) > 1000
    assert bare == "[]"


def test_it_holds_what_the_lock_says_and_nothing_else(cpu: str) -> None:
    program = """
import json
from importlib.metadata import distributions
print(json.dumps({d.metadata["Name"]: d.version for d in distributions() if "/opt/venv" in str(d.locate_file(""))}))
"""
    held: dict[str, str] = {
        canonicalize_name(name): number for name, number in json.loads(python(cpu, program)).items()
    }
    assert held.pop("wikigpt") == version("wikigpt")
    assert held.pop("torch").partition("+")[0] == pins("torch")["torch"]
    assert held == pins("app")


def test_development_tools_are_not_in_the_image(cpu: str) -> None:
    program = """
import pathlib, shutil, sys
packages = pathlib.Path(sys.prefix, "lib/python3.11/site-packages")
unwanted = ["torch/include", "torch/test", "pandas/tests", "scipy/stats/tests", "pip", "nvidia", "triton", "pytest"]
print([name for name in unwanted if (packages / name).exists()], shutil.which("g++"))
"""
    assert python(cpu, program) == "[] None"


def test_the_image_with_a_compiler_compiles_a_model_confined() -> None:
    program = """
import torch
torch.set_num_threads(1)
layer, rows = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()), torch.ones(2, 8)
print(torch.allclose(torch.compile(layer)(rows), layer(rows)))
"""
    assert python(image("cpu-compile"), program).splitlines()[-1] == "True"


def test_its_bill_of_materials_names_every_package_and_is_valid(cpu: str) -> None:
    sys.path.insert(0, str(REPOSITORY / "docker"))
    import sbom
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = sbom.packages(cpu, client())
    written = sbom.cyclonedx(cpu, found)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    components = json.loads(written)["components"]
    assert len(components) == len(found)
    assert any(component["purl"].startswith("pkg:deb/debian/libc6@") for component in components)
    listed = {canonicalize_name(package.name): package.version for package in found if package.kind == "pypi"}
    assert pins("app").items() <= listed.items()
    unnamed = [package.name for package in found if package.kind == "pypi" and not package.licences]
    assert len(unnamed) < 10, unnamed
