"""A sweep on the cluster: the compiled pipeline with room for its rounds, and the parameters of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cluster.compiling import compile_pipeline, parameters_for_cluster, train_pod
from pipelines.cluster.guards import refuse_secrets
from pipelines.cluster.submission import Package, checked_settings
from pipelines.config.parameters import RunParameters

if TYPE_CHECKING:
    from components.sweep.run import Sweep


def sweep_package(sweep: Sweep, profile: str, overrides: list[str], corpus: str | None = None) -> Package:
    """Compiles the pipeline of a sweep and checks the settings of its trials.

    Args:
        sweep: what is searched.
        profile, overrides, corpus: the settings of all trials, see `pipelines.cluster.submission.package`.

    Raises:
        Failure: a setting is wrong or is a secret, the image has no digest, or a setting names a local folder.
    """
    from pipelines.cluster.placement import pipeline_config, placement
    from pipelines.sweep import build_sweep

    space = [dimension.text for dimension in sweep.space]
    refuse_secrets(space)
    settings = checked_settings(profile, overrides, corpus)
    if settings.register.signing == "required" and not settings.cluster.signing_secret:
        settings = settings.with_values("register", signing="never")  # a sweep registers nothing
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
    parameters |= {"space": space, "sampler": sweep.sampler, "trials": sweep.trials, "sampler_seed": sweep.seed}
    return Package(compile_pipeline(pipeline), parameters, cluster.service_account, f"sweep-{settings.profile}")
