from kfp import dsl

from components import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def notify(settings: str, pipeline_run: str, status: dsl.PipelineTaskFinalStatus):
    """Reports the outcome of every run in the log, in MLflow and to a webhook if there is one.

    Args:
        settings: the settings of the run, JSON.
        pipeline_run: the id of the pipeline run.
        status: the final status of the other tasks, from KFP.
    """
    from components.notify.run import run
    from components.shared.runtime.step import step

    with step("notify", settings, pipeline_run, recorded=False) as here:
        run(here, {"state": status.state, "error_code": status.error_code, "error_message": status.error_message})
