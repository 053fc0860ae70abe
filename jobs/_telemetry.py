"""Metrics of our own, beside Ray's, where Prometheus finds those: on every machine's Ray agent.

Ray puts `ray_` before the names. What a run adds up to is counted by its driver, a shard once,
when its commit is known; what workers measure is lost with a worker that is killed.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ray.util.metrics import Counter, Gauge

from redaction_core import stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from redaction_core.totals import Totals

_COUNTERS: Final = {
    "redaction_inputs_total": ("Inputs done, by status: ok, failed.", ("verb", "status")),
    "redaction_failures_total": ("Inputs that failed, by class.", ("verb", "failure")),
    "redaction_bytes_total": ("Bytes of the inputs done.", ("verb",)),
    "redaction_shards_total": ("Shards committed.", ("verb",)),
    "redaction_attempts_total": ("Attempts at shards begun.", ("verb",)),
    "redaction_stage_seconds_total": ("Seconds of threads, by stage.", ("verb", "stage")),
    "redaction_gpu_busy_seconds_total": ("Seconds of networks on GPUs.", ("verb",)),
    "redaction_train_steps_total": ("Training steps done, repeated ones too.", ("verb",)),
    "redaction_train_restarts_total": ("Starts of all workers after the first.", ("verb",)),
}
_GAUGES: Final = {
    "redaction_shards_in_flight": ("Shards under way in a worker.", ("verb",)),
    "redaction_shards_pending": ("Shards that are not committed yet.", ("verb",)),
    "redaction_oldest_shard_seconds": ("Age of the oldest attempt under way.", ("verb",)),
    "redaction_train_loss": ("Mean loss since the last report.", ("verb",)),
    "redaction_train_images_per_s": ("Training samples a second, over all workers.", ("verb",)),
    "redaction_train_workers": ("Workers of the training.", ("verb",)),
}
_EXPORT_S: Final = 2.0
NAMES: Final = frozenset((*_COUNTERS, *_GAUGES))


def counter(name: str, verb: str) -> Counter:
    """Give one of the counters, for a verb."""
    description, tags = _COUNTERS[name]
    found = Counter(name, description, tags)
    found.set_default_tags({"verb": verb})
    return found


def gauge(name: str, verb: str) -> Gauge:
    """Give one of the gauges, for a verb."""
    description, tags = _GAUGES[name]
    found = Gauge(name, description, tags)
    found.set_default_tags({"verb": verb})
    return found


class WorkerTelemetry:
    """What a worker measures; for use from several threads."""

    def __init__(self, verb: str, *, gpu: bool) -> None:
        """Take the verb, and whether the stage `network` is on a GPU."""
        self.attempts = counter("redaction_attempts_total", verb)
        self._in_flight = gauge("redaction_shards_in_flight", verb)
        self._seconds = counter("redaction_stage_seconds_total", verb)
        self._busy = counter("redaction_gpu_busy_seconds_total", verb) if gpu else None
        self._count = 0
        self._lock = threading.Lock()

    @contextmanager
    def shard(self) -> Iterator[None]:
        """Count a shard that is under way within, and what stages take."""
        self._put(1)
        try:
            with self.exporting():
                yield
        finally:
            self._put(-1)

    def export(self) -> None:
        """Count what stages took since the last time."""
        for name, seconds in stages.take().items():
            self._seconds.inc(seconds, {"stage": name})
            if name in ("network", "step") and self._busy is not None and seconds:
                self._busy.inc(seconds)

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """Export again and again within, and at the end."""
        over = threading.Event()

        def run() -> None:
            while not over.wait(_EXPORT_S):
                self.export()

        threading.Thread(target=run, name="telemetry", daemon=True).start()
        try:
            yield
        finally:
            over.set()
            self.export()

    def _put(self, change: int) -> None:
        with self._lock:
            self._count += change
            self._in_flight.set(self._count)


class RunTelemetry:
    """What the driver of a run over shards knows."""

    def __init__(self, verb: str, pending: int) -> None:
        """Take the verb and the number of shards that are to be done."""
        self._inputs = counter("redaction_inputs_total", verb)
        self._failures = counter("redaction_failures_total", verb)
        self._bytes = counter("redaction_bytes_total", verb)
        self._shards = counter("redaction_shards_total", verb)
        self._pending = gauge("redaction_shards_pending", verb)
        self.oldest = gauge("redaction_oldest_shard_seconds", verb)
        self._left = pending
        self._pending.set(pending)

    def count(self, totals: Totals) -> None:
        """Count a committed shard."""
        self._left -= 1
        self._pending.set(self._left)
        self._shards.inc(1)
        for status, number in (("ok", totals.inputs - totals.failed), ("failed", totals.failed)):
            if number:
                self._inputs.inc(number, {"status": status})
        for failure, number in totals.failures.items():
            self._failures.inc(number, {"failure": failure})
        if totals.bytes:
            self._bytes.inc(totals.bytes)


class TrainTelemetry:
    """What the driver of a training hears of its workers."""

    def __init__(self) -> None:
        """Make the metrics."""
        self._steps = counter("redaction_train_steps_total", "train")
        self._restarts = counter("redaction_train_restarts_total", "train")
        self._loss = gauge("redaction_train_loss", "train")
        self._rate = gauge("redaction_train_images_per_s", "train")
        self._workers = gauge("redaction_train_workers", "train")
        self._step: int | None = None

    def progress(self, news: Mapping[str, Any]) -> None:
        """Take a report of progress; one that is behind the last begins after a restart."""
        step = int(news["step"])
        # The first report of a run that goes on says nothing of how many steps are its own.
        if self._step is not None and step > self._step:
            self._steps.inc(step - self._step)
        self._step = step
        if news["loss"] is not None:
            self._loss.set(news["loss"])
        self._rate.set(news["images_per_s"])
        self._workers.set(news["workers"])

    def restarted(self) -> None:
        """Count a start of all workers after the first."""
        self._restarts.inc(1)
