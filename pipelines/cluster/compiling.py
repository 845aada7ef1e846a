"""Compiles the pipeline to KFP's intermediate representation, the same bytes for the same settings."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.os_errors import os_failure
from components.shared.storage.files import disk_failure, write_atomically
from pipelines.cluster.guards import refuse_secret_values
from pipelines.config.settings import RunSettings

if TYPE_CHECKING:
    from pipelines.config.cluster import ClusterSettings


def compile_to(output: Path, settings: RunSettings) -> None:
    """Compiles the pipeline with these settings as the default of its one parameter.

    If the settings of the cluster name an image, every task gets its resources, secrets and limits. Otherwise the file
    holds the DAG without placement, which runs wherever our package is installed.

    Raises:
        Failure: the image may change under a run, or a value looks like a credential.
    """
    from kfp import compiler

    from pipelines.cluster.placement import pipeline_config, placement
    from pipelines.training import build

    cluster = settings.cluster
    passed = for_cluster(settings).to_json()
    if cluster.image:
        pipeline = build(passed, placement=placement(cluster), config=pipeline_config(cluster))
    else:
        pipeline = build(passed)
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        _write(output, compiled.read_bytes())


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


def for_cluster(settings: RunSettings) -> RunSettings:
    """Sets the numerics that a profile leaves to the machine, by the resources of the training pod.

    Raises:
        Failure: a value looks like a credential, which every reader of the pipeline could see.
    """
    refuse_secret_values({name: value for name, value in asdict(settings).items() if name != "cluster"})
    train = settings.train
    device, precision = train.device, train.precision
    if device == "auto":
        device = "cuda" if settings.cluster.train.gpus else "cpu"
    if precision == "auto":  # the processor of the pod is unknown here
        precision = "bfloat16" if device == "cuda" else "float32"
    threads = train.threads or _whole_cores(settings.cluster)
    return settings.with_values("train", device=device, precision=precision, threads=threads)


def _whole_cores(cluster: ClusterSettings) -> int:
    limit = cluster.train.cpu_limit
    return max(1, int(limit[:-1]) // 1000 if limit.endswith("m") else int(float(limit)))
