from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def notify(profile: str, overrides: list, pipeline_run: str, status: dsl.PipelineTaskFinalStatus):
    """Reports the outcome of every run in the log, in MLflow and to a webhook if there is one.

    Args:
        profile: the name of a profile of the project.
        overrides: settings that replace those of the profile, each `section.key=value`.
        pipeline_run: the id of the pipeline run.
        status: the final status of the other tasks, from KFP.
    """
    from components.notify.run import run
    from components.shared.runtime.step import step
    from pipelines.config.parameters import notify_composer

    with step("notify", notify_composer(profile, overrides), pipeline_run, recorded=False) as here:
        run(here, {"state": status.state, "error_code": status.error_code, "error_message": status.error_message})
