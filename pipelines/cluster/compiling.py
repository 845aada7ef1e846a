"""Compiles the pipeline to KFP's intermediate representation, the same bytes for the same settings."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.os_errors import os_failure
from components.shared.storage.files import disk_failure, write_atomically
from pipelines.cluster.guards import refuse_secret_values
from pipelines.config.parameters import RunParameters, TrainPod, parameters_of
from pipelines.config.settings import RunSettings

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

    from pipelines.config.cluster import ClusterSettings


def compile_to(output: Path, settings: RunSettings) -> None:
    """Writes the compiled pipeline to a file, see `compile_settings`."""
    _write(output, compile_settings(settings))


def compile_settings(settings: RunSettings) -> bytes:
    """Compiles the pipeline with these settings as the defaults of its parameters.

    If the settings of the cluster name an image, every task gets its resources, secrets and limits. Otherwise the file
    holds the DAG without placement, which runs wherever our package is installed.

    Raises:
        Failure: the image may change under a run, a value looks like a credential, or the training needs a GPU that its
            pod does not get.
    """
    from pipelines.cluster.placement import pipeline_config, placement
    from pipelines.training import build

    cluster = settings.cluster
    parameters, pod = parameters_for_cluster(settings), train_pod(cluster)
    if cluster.image:
        pipeline = build(parameters, pod, placement=placement(cluster), config=pipeline_config(cluster))
    else:
        pipeline = build(parameters, pod)
    return compile_pipeline(pipeline)


def compile_pipeline(pipeline: GraphComponent) -> bytes:
    """Compiles any pipeline; kfp's compiler writes files only."""
    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        return compiled.read_bytes()


def _write(output: Path, data: bytes) -> None:
    """Writes a regular file atomically. It writes through a device, a pipe or a link, which must not be replaced."""
    is_device_or_pipe = output.exists() and not output.is_file() and not output.is_dir()
    if is_device_or_pipe or output.is_symlink():
        try:
            output.write_bytes(data)
        except OSError as error:
            raise disk_failure(error, output) from error
    elif output.is_dir():
        raise os_failure(IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)), output)
    else:
        write_atomically(output, data)


def parameters_for_cluster(settings: RunSettings) -> RunParameters:
    """The parameters of a run on the cluster.

    Raises:
        Failure: a value looks like a credential, which every reader of the run could see, or the training needs a GPU
            that its pod does not get.
    """
    refuse_secret_values({name: value for name, value in asdict(settings).items() if name != "cluster"})
    train_pod(settings.cluster).with_numerics(settings)
    return parameters_of(json.loads(settings.to_json()))


def train_pod(cluster: ClusterSettings) -> TrainPod:
    """The hardware that the train step gets."""
    limit = cluster.train.cpu_limit
    cores = int(limit[:-1]) // 1000 if limit.endswith("m") else int(float(limit))
    return TrainPod(gpus=cluster.train.gpus, cores=max(1, cores))
