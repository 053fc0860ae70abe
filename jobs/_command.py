"""From a command line to an exit code: the same for every verb."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

from redaction_core.errors import RedactionCoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redaction_core.totals import Totals

_Config = TypeVar("_Config")


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """Flags that every verb with shards has."""

    output: str
    """Where to write; outside the input."""
    shard_size: int = 256
    """Inputs of a shard, the unit of work, memory and retry."""
    workers: int | None = None
    """Worker processes; default: as many as the cluster has room for."""
    cpus_per_worker: float = 1
    """Processor cores of a worker."""
    gpus_per_worker: float | None = None
    """GPUs of a worker, may be a fraction; default: 1 where the cluster has any, else 0."""
    max_failure_rate: float = 0.05
    """Share of inputs that may fail before the exit code is 1."""
    extend: bool = False
    """Add inputs that are new since the run was planned."""
    overwrite: bool = False
    """Remove what the run in this output wrote, and start anew."""
    dry_run: bool = False
    """Print the plan, and write nothing."""
    stuck_after_s: float = 900
    """A shard that has been under way for so many seconds is named on stderr, and then again."""
    worker_rate: float | None = None
    """For --dry-run: images_per_s_per_worker of an earlier run; default: a guess from this
    machine."""
    worker_price: float | None = None
    """For --dry-run: what a worker costs an hour, in any currency."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        if not 0 <= self.max_failure_rate <= 1:
            raise UsageError(f"--max-failure-rate {self.max_failure_rate}: write a share, 0 to 1")
        if self.shard_size < 1:
            raise UsageError(f"--shard-size {self.shard_size}: at least 1")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}: at least 1")
        if not self.stuck_after_s > 0:  # "nan" is not, either
            raise UsageError(f"--stuck-after-s {self.stuck_after_s:g}: more than 0")
        # Written so that neither infinity nor "nan" passes.
        gpus = self.gpus_per_worker or 0
        if not 0 < self.cpus_per_worker < math.inf or not 0 <= gpus < math.inf:
            raise UsageError("--cpus-per-worker is above 0, and --gpus-per-worker not below")
        refuse_odd_rates(self.worker_rate, self.worker_price)
        if gpus > 1 and gpus % 1:
            raise UsageError(f"--gpus-per-worker {gpus:g}: a fraction of one, or whole ones")
        if self.extend and self.overwrite:
            raise UsageError("--extend goes on with a run, --overwrite replaces it: choose one")


def refuse_odd_rates(worker_rate: float | None, worker_price: float | None) -> None:
    """Raise UsageError where a rate is no positive number, or a price a negative one."""
    if worker_rate is not None and not 0 < worker_rate < math.inf:
        raise UsageError(f"--worker-rate {worker_rate}: images per second, above 0")
    if worker_price is not None and not 0 <= worker_price < math.inf:
        raise UsageError(f"--worker-price {worker_price}: per hour, not below 0")


@dataclass(frozen=True, kw_only=True)
class NetworkFlags(RunFlags):
    """Flags that every verb has whose workers decode images and run networks on them."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What networks compute in; auto: bfloat16 where the device gains from it."""
    seed: int = 0
    """Seed of random places."""
    max_pixels: int = 2**27
    """Larger images are refused before they are decoded."""
    max_bytes: int = 2**29
    """Larger files are refused."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        super().__post_init__()
        if min(self.max_pixels, self.max_bytes) < 1:
            raise UsageError("--max-pixels and --max-bytes are at least 1")


_INTERRUPTED = 130
_results: TextIO | None = None
"""Where a running command prints its result; None: to stdout."""
_REPORT_EVERY_S = 2.0
_CLASSES = 5  # of failures, named in a line of progress


def run_command(config_class: type[_Config], job: Callable[[_Config], int]) -> None:
    """Read the flags, run the job, and end the process with its exit code.

    Errors that are raised on purpose are one line on stderr; anything else is a bug.
    """
    import tyro  # after the cheap imports, as it is a large part of --help's time

    global _results  # noqa: PLW0603 - Ray prints to whatever sys.stdout is
    _results = sys.stdout
    try:
        config = tyro.cli(config_class, prog=f"python -m jobs.{job.__name__}")
        code = job(config)
    except RedactionCoreError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        with_resume = " with --resume" if hasattr(config_class, "resume") else ""
        print(f"interrupted: the same command{with_resume} goes on from here", file=sys.stderr)
        code = _INTERRUPTED
    _results.flush()
    _results = None
    sys.exit(code)


def say(text: str) -> None:
    """Tell the person who waits; stdout is for the results."""
    print(text, file=sys.stderr, flush=True)


def print_result(result: Mapping[str, Any]) -> None:
    """Print the closing line: one JSON object."""
    print(json.dumps(result, allow_nan=False), file=_results, flush=True)


class Progress:
    """Rate and remaining time on stderr, every few seconds."""

    def __init__(self, verb: str, inputs: int) -> None:
        self._verb = verb
        self._inputs = inputs
        self._done = 0
        self._failures: Counter[str] = Counter()
        self._started = self._said = time.monotonic()
        self._first: tuple[float, int] | None = None

    def add(self, totals: Totals) -> None:
        """Count a finished shard."""
        now = time.monotonic()
        self._done += totals.inputs
        self._failures += totals.failures
        # The first shard waits for workers to start; the rate is that of the others.
        if self._first is None:
            self._first = (now, self._done)
        if now - self._said < _REPORT_EVERY_S and self._done < self._inputs:
            return
        self._said = now
        since, before = self._first
        if now - since < _REPORT_EVERY_S:
            since, before = self._started, 0
        rate = (self._done - before) / max(now - since, 1e-3)
        left_s = (self._inputs - self._done) / max(rate, 1e-3)
        failed = f", {self._failures.total()} failed" if self._failures else ""
        if self._failures:
            classes = (f"{name} {count}" for name, count in self._failures.most_common(_CLASSES))
            failed += f" ({', '.join(classes)})"
        say(
            f"{self._verb}: {self._done} of {self._inputs}{failed}, "
            f"{rate:.0f} images/s, {duration(left_s)} left"
        )


class Pace:
    """Images per second of a worker, once all have started."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._done = 0
        self._started = time.monotonic()
        self._first: tuple[float, int] | None = None
        self.images_per_s: float | None = None
        """None: nothing was done."""

    def add(self, inputs: int) -> None:
        """Count a finished shard."""
        now = time.monotonic()
        self._done += inputs
        self._first = self._first or (now, inputs)
        # When the first shard is done, the other workers have nearly done theirs.
        since, before = self._first[0], self._first[1] * self._workers
        if self._done < 2 * before:  # too few of them: what workers take to start counts too
            since, before = self._started, 0
        self.images_per_s = (self._done - before) / max(now - since, 1e-3) / self._workers


def estimate(seconds: float, workers: int, worker_price: float | None) -> dict[str, Any]:
    """Say what workers cost that are all paid from the first to the last second."""
    hours = seconds * workers / 3600
    return {
        "workers": workers,
        "estimated_seconds": round(seconds, 1),
        "estimated_worker_hours": round(hours, 3),
        "estimated_cost": None if worker_price is None else round(hours * worker_price, 2),
    }


def duration(seconds: float) -> str:
    """Write a time for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
