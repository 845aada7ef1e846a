"""One run of the DAG on this machine, from what a person asked for to what came of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from components.shared.base.events import parse
from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.secrets import move_out_secrets
from components.shared.storage.files import write_atomically
from pipelines.config.settings import RunSettings
from pipelines.local import machine, supervisor
from pipelines.local.dag import GRACE
from pipelines.local.home import Home, tracking_uri
from pipelines.local.progress import ProgressView
from pipelines.local.runners import stop_containers

# Reports are outputs of KFP tasks, files without an ending; here they get names that a browser opens.
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
    """What came of a run.

    Attributes:
        run: its name, also of its folder.
        log: the path of its log; in result.json from the home.
        exit_code: of the command.
        decision: the event of the download step with action, level and reason; None if the step did not get that far.
        registered: the event of the register step, or None.
        seconds: of each step that finished.
        reused: what each step took from the store instead of making it.
        reports: paths of the reports by step; in result.json from the home.
        failure: what, where, remedy and exit code, or None.
        started: steps that began.
        notified: whether the notice was given.
        interrupted: whether the command was told to end.
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
    def decision_word(self) -> str:
        return self.decision["action"] if self.decision else ""

    def note(self, event: dict[str, Any]) -> None:
        """Takes from an event what the result keeps."""
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
    """Ends a run when the command is told to end: the first signal asks it to stop, a second or the grace kills it."""

    def __init__(self, run: supervisor.Supervised, view: ProgressView):
        self.run, self.view = run, view
        self.told: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM or self.told is not None:
            self.run.kill()
            return
        self.told = number
        self.view.say("Stopping; a training saves a checkpoint first. Once more to kill it.")
        self.run.stop()
        signal.alarm(int(GRACE))

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.CTRL_C if self.told == signal.SIGINT else ExitCode.RESUMABLE

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals of the command for as long as the block runs."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
        before = {number: signal.signal(number, self) for number in numbers}
        try:
            yield
        finally:
            signal.alarm(0)
            for number, handler in before.items():
                signal.signal(number, handler)


def execute(settings: RunSettings, home: Home, store: str, view: ProgressView, runner: dict[str, Any]) -> Result:
    """Runs the DAG to its end, or to a signal; leaves no process behind.

    Args:
        settings: with numerics pinned.
        home: where the run is kept.
        store: the address of the store.
        view: what is shown meanwhile.
        runner: `{"runner": "subprocess"}`, or "docker" with the arguments of its containers. With "reproduction": True
            it trains in a home of its own, and nothing is judged, registered or announced.
    """
    folder = home.new_run()
    travelling, secrets = move_out_secrets(json.loads(settings.to_json()))
    write_atomically(folder / "settings.json", json.dumps(travelling, sort_keys=True))
    write_atomically(folder / "plan.json", json.dumps(runner))
    reproduction = runner.get("reproduction", False)
    environment = step_variables(home, store, folder.name) | secrets
    if reproduction:
        environment |= {"MLFLOW_TRACKING_URI": home.tracking_uri, "MLFLOW_RUN_ID": ""}
    run = supervisor.start(folder, environment)
    result = Result(run=folder.name, log=str(run.log))
    stopper = SignalHandler(run, view)
    with stopper.listening():
        for event in filter(None, map(parse, run.lines())):
            result.note(event)
            view.show(event)
        returncode = run.process.wait()
    if runner["runner"] == "docker":
        stop_containers(folder.name, kill=True)
    if stopper.told is not None:
        result.interrupted, result.exit_code = True, stopper.exit_code
    else:
        _check_outcome(result, returncode, registers=not reproduction)
    if not result.notified and not reproduction:
        supervisor.run_notify(folder, environment, "CANCELED" if stopper.told else "FAILED")
    result.reports = _copy_reports(folder)
    write_atomically(folder / "result.json", json.dumps(_to_record(result, home), indent=1))
    return result


def _to_record(result: Result, home: Home) -> dict[str, Any]:
    """The result with paths from the home, which may be moved."""
    reports = {step: str(Path(path).relative_to(home.root)) for step, path in result.reports.items()}
    log = str(Path(result.log).relative_to(home.root))
    return {**asdict(result), "log": log, "reports": reports, "started": sorted(result.started)}


def step_variables(home: Home, store: str, run: str) -> dict[str, str]:
    """The variables that every step of a run on this machine is given."""
    return {
        "WIKIGPT_HOME": str(home.root),
        "WIKIGPT_STORE": store,
        "WIKIGPT_RUN": run,
        "WIKIGPT_COMMIT": machine.commit(),
        "MLFLOW_TRACKING_URI": tracking_uri(home),
        **_compile_cache(home),
        **QUIET,
    }


def _compile_cache(home: Home) -> dict[str, str]:
    """What torch.compile makes is kept in the home; torch reads the variable when it is imported.

    It calls a compiler that does not take every path: beside such a home the cache is where torch puts it.
    """
    name = "TORCHINDUCTOR_CACHE_DIR"
    if name in os.environ or not re.fullmatch(r"[A-Za-z0-9_./+-]+", str(home.root)):
        return {}
    return {name: str(home.root / "compile-cache")}


def _check_outcome(result: Result, returncode: int, *, registers: bool) -> None:
    """Holds what the steps said against what must have happened.

    kfp.local calls a run a success although a condition could not be evaluated and nothing below it ran.
    """
    if result.failure is None and returncode != 0:
        unfinished = sorted(result.started - result.seconds.keys())
        how = f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
        result.failure = Failure(
            f"The process of the pipeline ended with {how}, and no step recorded a failure; {_last_lines(result.log)}",
            where=f"step {unfinished[0]}, {result.log}" if unfinished else result.log,
            remedy="see the log",
        ).to_dict()
    due = registers and result.decision_word == "train"
    if result.failure is None and due and result.registered is None:
        result.failure = Failure(
            "Training was due but nothing was registered", where=result.log, remedy="see the log"
        ).to_dict()
    if result.failure is not None:
        result.exit_code = ExitCode(int(result.failure["exit_code"]))


def _last_lines(log: str) -> str:
    """What was printed last, apart from events."""
    with open(log, encoding="utf-8", errors="replace") as stream:
        last = deque((line.strip() for line in stream if line.strip() and parse(line) is None), maxlen=3)
    return f"its last lines were: {' | '.join(last)}" if last else "it printed nothing"


def _copy_reports(folder: Path) -> dict[str, str]:
    """Gives the reports of a run names that a browser opens, beside its log."""
    reports = {}
    for step, name in _REPORTS.items():
        for made in (folder / "steps").glob(f"*/{step}/report"):
            shutil.copyfile(made, folder / name)
            reports[step] = str(folder / name)
    return reports
