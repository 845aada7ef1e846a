"""A sweep on the cluster: the compiled pipeline with room for its rounds, and the parameters of its run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cluster.compiling import parameters_for_cluster, train_pod
from pipelines.cluster.guards import refuse_folders, refuse_secrets
from pipelines.cluster.submission import Package
from pipelines.config.parameters import RunParameters
from pipelines.config.settings import load

if TYPE_CHECKING:
    from components.sweep.run import Sweep


def sweep_package(
    sweep: Sweep, space: list[str], profile: str, overrides: list[str], corpus: str | None = None
) -> Package:
    """Compiles the pipeline of a sweep and checks the settings of its trials.

    Args:
        sweep: what is searched.
        space: the settings that vary, as texts.
        profile, overrides, corpus: the settings of all trials, see `pipelines.cluster.submission.package`.

    Raises:
        Failure: a setting is wrong or is a secret, the image has no digest, or a setting names a local folder.
    """
    from kfp import compiler

    from pipelines.cluster.placement import pipeline_config, placement
    from pipelines.sweep import build_sweep

    refuse_secrets([*overrides, *space])
    settings = load(profile, overrides)
    if corpus:
        settings = settings.with_values("download", corpus=corpus)
    refuse_folders(settings)
    parameters = parameters_for_cluster(settings).to_dict()
    del parameters["force"]  # a trial reuses what exists
    cluster = settings.cluster
    pipeline = build_sweep(
        RunParameters(profile=parameters["profile"]),
        train_pod(cluster),
        rounds=sweep.rounds,
        at_once=sweep.at_once,
        placement=placement(cluster),
        config=pipeline_config(cluster),
    )
    with tempfile.TemporaryDirectory() as folder:
        ir = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(ir))
        parameters |= {
            "space": space,
            "sampler": sweep.sampler,
            "trials": sweep.trials,
            "sampler_seed": sweep.seed,
        }
        return Package(ir.read_bytes(), parameters, cluster.service_account, f"sweep-{settings.profile}")
