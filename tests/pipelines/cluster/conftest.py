"""A compiled pipeline as the two documents that Kubeflow Pipelines reads."""

from pathlib import Path

import pytest
import yaml
from kfp import compiler, dsl

from pipelines.cluster.placement import pipeline_config, placement
from pipelines.config.cluster import ClusterSettings
from tests.kfp_stand_in.fixtures import cluster, kubeconfig, stand_in  # noqa: F401

IMAGE = "registry.example/wikigpt@sha256:" + "a" * 64


@dsl.component(base_image="wikigpt-python:dev", install_kfp_package=False)
def work(settings: str):
    """Replaces a step."""
    print(settings)


def small_pipeline(chosen: ClusterSettings, settings: str = "{}"):
    """A train task and a notify task, placed on the cluster."""
    place = placement(chosen)

    @dsl.pipeline(name="wikigpt", pipeline_config=pipeline_config(chosen))
    def training(settings: str = settings):
        notice = work(settings=settings).set_display_name("Notify")
        place(notice, "notify")
        with dsl.ExitHandler(notice, name="train-and-notify"):
            place(work(settings=settings).set_display_name("Train the model"), "train")

    return training


@pytest.fixture
def compiled(tmp_path: Path):
    """Compiles the small pipeline, and returns the documents `pipeline` and `platform`."""

    def compile_with(**values):
        path = tmp_path / "pipeline.yaml"
        compiler.Compiler().compile(small_pipeline(ClusterSettings(**{"image": IMAGE, **values})), str(path))
        return list(yaml.load_all(path.read_text(), yaml.CSafeLoader))

    return compile_with


@pytest.fixture(scope="session")
def ir(tmp_path_factory) -> Path:
    """The small pipeline, compiled to a file."""
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compiler.Compiler().compile(small_pipeline(ClusterSettings(image=IMAGE)), str(path))
    return path
