from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def download(
    profile: str,
    corpus_source: str,
    seed: int,
    force: bool,
    overrides: list,
    train_gpus: int,
    train_cores: int,
    pipeline_run: str,
    trial: str,
    corpus: dsl.Output[dsl.Dataset],
    run_id: dsl.OutputPath(str),  # type: ignore[valid-type]
    settings: dsl.OutputPath(str),  # type: ignore[valid-type]
    tokens_key: dsl.OutputPath(str),  # type: ignore[valid-type]
    reuse_key: dsl.OutputPath(str),  # type: ignore[valid-type]
    reuse_level: dsl.OutputPath(str),  # type: ignore[valid-type]
) -> str:
    """Composes the settings of the run, fetches the corpus, checks its digests and decides whether the run trains.

    The decision is the only return value because kfp.local resolves a condition on nothing else.

    Args:
        profile: the name of a profile of the project.
        corpus_source: replaces the corpus of the profile; an empty text keeps it.
        seed: replaces the seed of the training; -1 keeps it.
        force: whether the run trains even if a version, a model or a checkpoint exists.
        overrides: further settings, each `section.key=value`.
        train_gpus: the number of GPUs of the train step.
        train_cores: the number of CPU cores of the train step.
        pipeline_run: the id of the pipeline run.
        trial: the trial of a sweep, JSON; an empty text in a run of its own.
        corpus: train.txt, validation.txt, test.txt and their manifest.
        run_id: the id under which the other steps run: that of the pipeline run or of the trial.
        settings: the settings of the run, JSON.
        tokens_key: the reuse key of the tokens.
        reuse_key: the model key.
        reuse_level: the most useful artifact that exists for the model key, or `forced` if all are ignored.

    Returns:
        `train` or `skip`.
    """
    from pathlib import Path

    from components.download.run import run
    from components.shared.runtime.step import step
    from pipelines.config.parameters import composer, run_of

    compose = composer(profile, corpus_source, seed, force, overrides, train_gpus, train_cores, trial)
    with step("download", compose, run_of(trial) or pipeline_run) as here:
        outcome = run(here, Path(corpus.path))
        return outcome.write(*map(Path, (run_id, settings, tokens_key, reuse_key, reuse_level)))
