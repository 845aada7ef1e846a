"""Runs the DAG on this machine, and collects the result."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from components.shared.base.events import parse
from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.secrets import move_out_secrets
from components.shared.signing.keys import PUBLIC_KEY, SIGNING_KEY, is_path
from components.shared.storage.files import write_atomically
from pipelines.config.paths import absolute
from pipelines.local import machine, supervisor
from pipelines.local.dag import GRACE
from pipelines.local.home import Home, tracking_uri
from pipelines.local.progress import ProgressView
from pipelines.local.runners import stop_containers
from pipelines.local.scratch import scratch_folder

if TYPE_CHECKING:
    from pipelines.config.settings import RunSettings

# Reports are outputs of KFP tasks, files without a suffix. Their copies have names that a browser opens.
_REPORTS = {"validate": "validation.html", "evaluate": "evaluation.html"}
QUIET = {
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@dataclass
class Result:
    """The result of a run.

    Attributes:
        run: the name of the run and of its folder.
        log: the path of its log; relative to the home in result.json.
        exit_code: the exit code of the command.
        decision: the event `decision` of the download step with action, level and reason, or None.
        registered: the event of the register step, or None.
        seconds: the duration of each finished step.
        reused: the objects that each step reused from the store.
        reports: the paths of the reports by step; relative to the home in result.json.
        failure: the failure with its message, place, remedy and exit code, or None.
        started: the steps that started.
        notified: whether the notify step ran.
        interrupted: whether the command received a signal to stop.
    """

    run: str
    log: str
    exit_code: int = ExitCode.OK
    decision: dict[str, Any] | None = None
    registered: dict[str, Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    reused: dict[str, str] = field(default_factory=dict)
    reports: dict[str, str] = field(default_factory=dict)
    failure: dict[str, Any] | None = None
    started: set[str] = field(default_factory=set)
    notified: bool = False
    interrupted: bool = False

    @property
    def decision_action(self) -> str:
        return self.decision["action"] if self.decision else ""

    def note(self, event: dict[str, Any]) -> None:
        """Updates the result from an event."""
        kind, step = event["event"], event.get("step", "")
        if kind == "step-started":
            self.started.add(step)
        elif kind == "step-finished":
            self.seconds[step] = event["seconds"]
        elif kind == "step-failed" and step != "notify":
            self.failure = {"step": step, **{key: event[key] for key in ("what", "where", "remedy", "exit_code")}}
        elif kind == "decision":
            self.decision = event
        elif kind == "registered":
            self.registered = event
        elif kind == "reused":
            self.reused[step] = event["what"]
        elif kind == "notice":
            self.notified = True


class SignalHandler:
    """Handles the signals of the command: the first one stops the run; a second one, or the grace period, kills it."""

    def __init__(self, run: supervisor.Supervised, view: ProgressView):
        self.run, self.view = run, view
        self.received: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM or self.received is not None:
            self.run.kill()
            return
        self.received = number
        self.view.say("Stopping; a training saves a checkpoint first. Press Ctrl-C again to kill it.")
        self.run.stop()
        signal.alarm(int(GRACE))

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.CTRL_C if self.received == signal.SIGINT else ExitCode.RESUMABLE

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles the signals of the command within the block."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
        before = {number: signal.signal(number, self) for number in numbers}
        try:
            yield
        finally:
            signal.alarm(0)
            for number, handler in before.items():
                signal.signal(number, handler)


def execute(
    settings: RunSettings,
    home: Home,
    store: str,
    view: ProgressView,
    runner: dict[str, Any],
    run: str | None = None,
) -> Result:
    """Runs the DAG until it ends or is interrupted, and leaves no process behind.

    Args:
        settings: the settings, with resolved numerics.
        home: the home that stores the run.
        store: the address of the store.
        view: the view that shows progress.
        runner: `{"runner": "subprocess"}`, or "docker" with the arguments of its containers. With "until": "train"
            nothing is evaluated or registered; with "reproduction": True this also happens in the MLflow of the home.
        run: the name of the run; by default a new one.
    """
    from pipelines.config.parameters import parameters_of

    registers = "until" not in runner
    if not registers:
        settings = settings.with_values("register", signing="never")  # a key for it need not be here
    folder = home.new_run(run)
    travelling, secrets = move_out_secrets(json.loads(settings.to_json()))
    write_atomically(folder / "parameters.json", json.dumps(parameters_of(travelling).to_dict(), sort_keys=True))
    pod = {"gpus": int(settings.train.device == "cuda"), "cores": settings.train.threads}
    write_atomically(folder / "plan.json", json.dumps({**runner, "train_pod": pod}))
    environment = step_variables(home, store, folder.name) | secrets
    if runner.get("reproduction"):
        environment |= {"MLFLOW_TRACKING_URI": home.tracking_uri, "MLFLOW_RUN_ID": ""}
    with scratch_folder() as scratch:
        environment |= scratch.variables
        started = supervisor.start(folder, environment, scratch.lock)
        result = Result(run=folder.name, log=str(started.log))
        stopper = SignalHandler(started, view)
        with stopper.installed():
            for event in filter(None, map(parse, started.lines())):
                result.note(event)
                view.show(event)
            returncode = started.process.wait()
        if runner["runner"] == "docker":
            stop_containers(folder.name, kill=True)
        if stopper.received is not None:
            result.interrupted, result.exit_code = True, stopper.exit_code
        else:
            _check_outcome(result, returncode, registers=registers)
        if not result.notified and registers:
            state = "CANCELED" if stopper.received else "FAILED"
            supervisor.run_notify(folder, environment, state, scratch.lock)
    result.reports = _copy_reports(folder)
    write_atomically(folder / "result.json", json.dumps(_to_record(result, home), indent=1))
    return result


def _to_record(result: Result, home: Home) -> dict[str, Any]:
    """The result with paths relative to the home, which may be moved."""
    reports = {step: str(Path(path).relative_to(home.root)) for step, path in result.reports.items()}
    log = str(Path(result.log).relative_to(home.root))
    return {**asdict(result), "log": log, "reports": reports, "started": sorted(result.started)}


def step_variables(home: Home, store: str, run: str) -> dict[str, str]:
    """The environment variables of every step of a run on this machine."""
    return {
        "WIKIGPT_HOME": str(home.root),
        "WIKIGPT_STORE": store,
        "WIKIGPT_RUN": run,
        "WIKIGPT_COMMIT": machine.commit(),
        "MLFLOW_TRACKING_URI": tracking_uri(home),
        **_keys(),
        **_compile_cache(home),
        **QUIET,
    }


def _keys() -> dict[str, str]:
    """The variables that name a file with a key, with absolute paths, since steps run in other folders."""
    named = {name: os.environ[name] for name in (SIGNING_KEY, PUBLIC_KEY) if os.environ.get(name)}
    return {name: str(absolute(value, name)) for name, value in named.items() if is_path(value)}


def _compile_cache(home: Home) -> dict[str, str]:
    """Keeps the cache of torch.compile in the home. torch reads the variable when it is imported.

    torch calls a compiler that does not accept every path. With such a home, the cache is in the folder for temporary
    files: not in that of the run, which is removed.
    """
    name = "TORCHINDUCTOR_CACHE_DIR"
    if name in os.environ:
        return {}
    if re.fullmatch(r"[A-Za-z0-9_./+-]+", str(home.root)):
        return {name: str(home.root / "compile-cache")}
    return {name: str(Path(tempfile.gettempdir()) / f"wikigpt-compile-cache-{os.getuid()}")}


def _check_outcome(result: Result, returncode: int, *, registers: bool) -> None:
    """Checks that the events of the steps match a successful run.

    kfp.local reports success even if a condition could not be evaluated and nothing in it ran.
    """
    if result.failure is None and returncode != 0:
        unfinished = sorted(result.started - result.seconds.keys())
        how = f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
        result.failure = Failure(
            f"The process of the pipeline ended with {how}, and no step recorded a failure; {_last_lines(result.log)}",
            where=f"step {unfinished[0]}, {result.log}" if unfinished else result.log,
            remedy="see the log",
        ).to_dict()
    due = registers and result.decision_action == "train"
    if result.failure is None and due and result.registered is None:
        result.failure = Failure(
            "Training was due but nothing was registered", where=result.log, remedy="see the log"
        ).to_dict()
    if result.failure is not None:
        result.exit_code = ExitCode(int(result.failure["exit_code"]))


def _last_lines(log: str) -> str:
    """The last lines of the log, without events."""
    with open(log, encoding="utf-8", errors="replace") as stream:
        last = deque((line.strip() for line in stream if line.strip() and parse(line) is None), maxlen=3)
    return f"its last lines were: {' | '.join(last)}" if last else "it printed nothing"


def _copy_reports(folder: Path) -> dict[str, str]:
    """Copies the reports of a run to the folder of its log, under names that a browser opens."""
    reports = {}
    for step, name in _REPORTS.items():
        for made in (folder / "steps").glob(f"*/{step}/report"):
            shutil.copyfile(made, folder / name)
            reports[step] = str(folder / name)
    return reports
