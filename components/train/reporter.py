"""Reports a training: events for the progress bar and the log, and metrics for MLflow, which never block training."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import Any

from components.shared.base.events import emit
from components.shared.base.failure import first_line
from components.shared.runtime.step import Step
from components.shared.tracking.run import Tracking
from components.train.time_left import TimeLeft

_ROWS, _TAGS = 20_000, 100  # kept while MLflow is unreachable; then the oldest are dropped
_ROWS_A_CALL = 50
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0  # seconds
_SHOWN = ("loss", "validation_perplexity", "tokens_per_second")
# MLflow shows metrics with these names as system metrics.
_CPU = "system/cpu_utilization_percentage"
_MEMORY = "system/system_memory_usage_megabytes"
_GPU_MEMORY = "system/gpu_0_memory_usage_megabytes"


class MetricsReporter:
    """Reports the rows of the loss curve. A thread sends them to MLflow in order, and retries while it is unreachable.

    Use it as a context manager around training. Its end waits a few seconds for undelivered rows.

    Args:
        step: the step, whose MLflow run receives the metrics.
        params: the parameters, which are logged once.
        earlier: the rows of the loss curve up to the checkpoint that is resumed; those that MLflow lacks are sent.
        at_end: the number of seconds to wait at the end.
    """

    def __init__(
        self, step: Step, params: dict[str, Any], *, earlier: Sequence[dict[str, Any]] = (), at_end: float = 15.0
    ):
        self.step, self.params, self.at_end = step, params, at_end
        self.rows: deque[tuple[int, dict[str, float]]] = deque(maxlen=_ROWS)
        self.earlier = len(earlier)
        for row in earlier:
            self._queue(row)
        self.tags: deque[dict[str, str]] = deque(maxlen=_TAGS)
        self.shown: dict[str, Any] = {}
        self.time_left = TimeLeft(max((row["step"] for row in earlier if "validation_loss" in row), default=0))
        self.news, self.over = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._deliver, name="metrics", daemon=True)

    def __enter__(self) -> MetricsReporter:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self.news.set()
        self.thread.join(self.at_end)
        if self.rows:
            kept = "history.jsonl has them" if kind is None else "a resumed run sends those up to the last checkpoint"
            emit("note", text=f"warning: {len(self.rows)} rows of metrics did not reach MLflow; {kept}")

    def observe(self, row: dict[str, Any], steps: int) -> None:
        """Emits a progress event for a row and queues the row for MLflow.

        Args:
            row: a row of the loss curve, see `components.train.loop.train`.
            steps: the number of steps of the training.
        """
        self.shown |= {name: row[name] for name in _SHOWN if name in row}
        if (left := self.time_left.update(row, steps, time.monotonic())) is not None:
            self.shown["eta"] = round(left, 1)
        emit("progress", step="train", done=row["step"], total=steps, **self.shown)
        self._queue(row | _system())
        self.news.set()

    def _queue(self, row: dict[str, Any]) -> None:
        now = int(time.time() * 1000)
        self.rows.append((now, {name: value for name, value in row.items() if isinstance(value, int | float)}))

    def tag(self, name: str, value: str) -> None:
        """Queues a tag of the MLflow run."""
        self.tags.append({name: value})
        self.news.set()

    @cached_property
    def tracking(self) -> Tracking:
        """A connection without retries, because the thread retries."""
        return Tracking.open(self.step.run, patience=0)

    def _deliver(self) -> None:
        wait = _FIRST_WAIT
        while True:
            ending = self.over.is_set()
            try:
                self._send()
                wait = _FIRST_WAIT
            except Exception as error:
                if wait == _FIRST_WAIT:
                    emit("note", text=f"warning: metrics wait for MLflow: {first_line(error)}")
                self.over.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            if ending:
                return
            self.news.wait()
            self.news.clear()

    def _send(self) -> None:
        """Sends the queues; a row or a tag leaves its queue only after MLflow has accepted it."""
        from mlflow.entities import Metric

        tracking = self.tracking
        if self.params:
            tracking.params(self.params)
            self.params = {}
        if self.earlier:
            self._skip_delivered()
        while self.rows:
            rows = [self.rows[i] for i in range(min(_ROWS_A_CALL, len(self.rows)))]
            metrics = [
                Metric(name, float(value), moment, int(row["step"]))
                for moment, row in rows
                for name, value in row.items()
                if name != "step"
            ]
            tracking.client.log_batch(tracking.run_id, metrics=metrics)
            for _ in rows:
                self.rows.popleft()
        while self.tags:
            tracking.tags(self.tags[0])
            self.tags.popleft()

    def _skip_delivered(self) -> None:
        """Drops earlier rows that MLflow already has, because no record says which ones were delivered."""
        tracking = self.tracking
        points = tracking.client.get_metric_history(tracking.run_id, "loss")
        last = max((point.step for point in points), default=0)
        while self.earlier and self.rows[0][1]["step"] < last:
            self.rows.popleft()
            self.earlier -= 1
        self.earlier = 0


def _system() -> dict[str, float]:
    import psutil
    import torch

    seen = {_CPU: psutil.cpu_percent(), _MEMORY: psutil.virtual_memory().used / 1e6}
    if torch.cuda.is_initialized():
        seen[_GPU_MEMORY] = torch.cuda.max_memory_allocated() / 1e6
    return seen
