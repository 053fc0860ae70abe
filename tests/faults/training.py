"""Trainings that are struck at random moments, and compared with one that was left in peace.

A worker or the driver is killed (SIGKILL), the storage server is away for a while. Everything
random derives from a seed and the number of the run.
"""

import json
import os
import random
import re
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import psutil

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import DiskStore, open_store
from tests.command import Command, Ended, run
from tests.faults.harness import (
    MARK,
    command_line,
    in_bucket,
    left_running,
    processes,
    wait_until,
)
from tests.faults.traces import Steps, Trace
from tests.unit.training_sets import smooth_images, write_data_set

BATCH_SIZE = 7
EPOCHS, REPEATS, TRAIN = 2, 100, 24
STEPS = EPOCHS * -(-TRAIN * REPEATS // BATCH_SIZE)
FLAGS = (
    *("--network", "enhancer", "--architecture", "width=8", "blocks=1", "--redact", "pixelate:4"),
    *("--crop", "16", "--batch-size", str(BATCH_SIZE), "--precision", "float32"),
    *("--epochs", str(EPOCHS), "--repeats", str(REPEATS)),
    *("--workers", "1", "--cpus-per-worker", "1", "--checkpoint-every-s", "1", "--resume"),
)
WORKER = "RayTrainWorker"

Victim = Literal["worker", "driver", "server"]
Place = Literal["disk", "bucket"]

_SAID = re.compile(
    r"starting \d+ workers? of |no whole checkpoint is left: starting from the beginning$|"
    r"train: epoch \d|going on after step \d+ of|workers were started anew$|waiting for storage: |"
    r"what starts the workers died|.* does not answer: trying for \d+ s$|"
    r"training goes on, but .* is not stored yet: |storage takes writes again$|"
    r".*: waiting for it, \d+ s at most$|this training is finished already$"
)
_LONGEST_PAUSE_S = 2.0
_DURING_START_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Blow:
    """What is struck, and when."""

    victim: Victim
    moment: float
    """Share of the steps after which it is; at 0, as soon as there is a worker."""
    pause_s: float = 0.0
    """After the moment: between two steps, too, things happen."""
    down_s: float = 0.0
    """The server is away for so long."""
    frozen: bool = False
    """The server does not answer, instead of being gone."""

    def __str__(self) -> str:
        """Say it in a few words."""
        away = f" {'frozen' if self.frozen else 'gone'} for {self.down_s:.0f} s"
        return f"{self.victim}{away * (self.victim == 'server')} at {self.moment:.0%}"


def draw_blows(number: int, seed: int, *, longest_s: float) -> tuple[Place, list[Blow]]:
    """Draw one run's: all victims in turn, and another worker; on disk without the server."""
    chance = random.Random(f"{seed}-{number}")
    place: Place = "bucket" if number % 2 else "disk"
    victims = [*get_args(Victim), "worker"]
    blows = []
    for victim in (each for each in victims if place == "bucket" or each != "server"):
        # Beyond both ends: while things begin, and while the last is written.
        moment = min(1.0, max(0.0, chance.uniform(-0.15, 1.1)))
        longest = _LONGEST_PAUSE_S if moment else _DURING_START_S
        blows.append(
            Blow(
                victim=victim,
                moment=moment,
                pause_s=chance.uniform(0, longest),
                down_s=chance.uniform(1, longest_s),
                frozen=chance.random() < 0.5,
            )
        )
    return place, sorted(blows, key=lambda blow: blow.moment)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """All that must be the same after any blows."""

    files: dict[str, bytes]
    """Weights, bit by bit."""
    values: dict[str, Any]
    """History and the model's config, without times and places."""
    names: list[str]
    """Kinds of files."""
    seen: Steps
    """What each step has learnt from."""

    @classmethod
    def read(cls, output: str, trace: Trace) -> Self:
        """Read the output of a finished training."""
        store = open_store(output)
        keys = [entry.key for entry in store.list()]
        last = json.loads(store.read(f"checkpoints/step-{STEPS:08}.json").data)
        history = json.loads(store.read("history.json").data)
        config = json.loads(store.read("model/config.json").data)
        for each in (*config["data"], *config["training"]["sources"]):
            each.pop("location")
        return cls(
            files={
                key: store.read(key).data for key in ("model/model.safetensors", last["weights"])
            },
            values={
                "history": [_without_times(epoch) for epoch in history],
                "checkpoint": [_without_times(epoch) for epoch in last["record"]["history"]],
                "config": config,
            },
            names=sorted({_kind(key) for key in keys}),
            seen=trace.last_seen(BATCH_SIZE),
        )

    def differences(self, other: "Trained") -> list[str]:
        """Say in which ways this one is not that of the run in peace."""
        problems = [f"superfluous: {name}" for name in self.names if name not in other.names]
        problems += [f"missing: {name}" for name in other.names if name not in self.names]
        problems += [
            f"other bytes: {key}"
            for key, data in other.files.items()
            if self.files.get(key) != data
        ]
        problems += [
            f"other {name}: {self.values[name]}, not {value}"
            for name, value in other.values.items()
            if self.values[name] != value
        ]
        missing = other.seen.keys() - self.seen.keys()
        problems += [f"steps not seen: {sorted(missing)[:9]}"] if missing else []
        odd = [step for step, names in self.seen.items() if names != other.seen.get(step)]
        return problems + ([f"steps with other samples: {odd[:9]}"] if odd else [])


@dataclass(kw_only=True)
class Struck:
    """What became of a training."""

    missed: list[Blow] = field(default_factory=list)
    """The training had ended before."""
    starts: int = 0
    """Of the command."""
    said: str = ""
    """On stderr, by all starts."""
    problems: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class TrainingScene:
    """A data set on disk and in a bucket, and what a training in peace makes of it."""

    folder: Path
    server: EmbeddedS3
    expected: Trained
    seconds: float

    @classmethod
    def prepare(cls, folder: Path, server: EmbeddedS3) -> Self:
        """Write the data set, and train once in peace; the environment leads to the server."""
        first = f"{folder}/set"
        write_data_set(first, smooth_images(TRAIN + TRAIN // 3, 16))
        source, copy = open_store(first), open_store(f"{in_bucket(folder)}/set")
        for entry in source.list():
            copy.put(entry.key, source.read(entry.key).data)
        trace, output, started = Trace(folder / "trace"), f"{folder}/out", time.monotonic()
        ended = run(
            folder / "peace",
            *("--data", first, "--output", output, *FLAGS),
            verb="train",
            environment={"REDACTION_TRAINING_TRACE": str(trace.folder)},
        )
        assert ended.code == 0, ended.stderr
        expected = Trained.read(output, trace)
        assert sorted(expected.seen) == list(range(STEPS))
        names = [name for step in sorted(expected.seen) for name in expected.seen[step]]
        assert len(names) == len(set(names)) == EPOCHS * REPEATS * TRAIN
        seconds = time.monotonic() - started
        return cls(folder=folder, server=server, expected=expected, seconds=seconds)

    def strike(self, place: Place, blows: Sequence[Blow]) -> Struck:
        """Train, strike, go on wherever the driver was killed, and compare."""
        struck = Struck()
        name = uuid.uuid4().hex
        root = str(self.folder) if place == "disk" else in_bucket(self.folder)
        output, log = f"{root}/{name}", self.folder / "logs" / name
        trace = Trace(log / "trace")

        def start() -> Command:
            struck.starts += 1
            return Command.start(
                log / str(struck.starts),
                *("--data", f"{root}/set", "--output", output, *FLAGS),
                verb="train",
                environment={MARK: name, "REDACTION_TRAINING_TRACE": str(trace.folder)},
            )

        command = start()
        for blow in blows:
            if not self._wait_for(blow, command, name, trace):
                struck.missed.append(blow)
            elif blow.victim == "server":
                self._away(blow)
            elif (victim := self._find(blow, command, name)) is None:
                struck.missed.append(blow)
            else:
                victim.kill()
                if blow.victim == "driver":
                    _judge(command.wait(), struck, killed=True)
                    # At once: what the killed run left behind may still be at work.
                    command = start()
        ended = command.wait()
        if _was_refused(ended):
            ended = start().wait()
        _judge(ended, struck, killed=False)
        if not struck.problems:
            struck.problems += Trained.read(output, trace).differences(self.expected)
            struck.problems += _half_written(output)
        struck.problems += [f"left running: {process}" for process in left_running(name)]
        return struck

    def _wait_for(self, blow: Blow, command: Command, name: str, trace: Trace) -> bool:
        """Wait for its moment; False when the command ends before."""

        def reached() -> bool:
            if blow.moment == 0:
                return any(_workers(name))
            return trace.reached >= blow.moment * STEPS

        wait_until(lambda: command.process.poll() is not None or reached())
        time.sleep(blow.pause_s)
        return command.process.poll() is None

    def _away(self, blow: Blow) -> None:
        if not blow.frozen:
            self.server.kill()
            time.sleep(blow.down_s)
            self.server.start()
            return
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGSTOP)
        time.sleep(blow.down_s)
        os.kill(self.server.pid, signal.SIGCONT)

    def _find(self, blow: Blow, command: Command, name: str) -> psutil.Process | None:
        """Find the process to kill; None when the command ends before there is one."""
        if blow.victim == "driver":
            return psutil.Process(command.process.pid)
        found: list[psutil.Process] = []

        def is_found() -> bool:
            found[:] = _workers(name)
            return bool(found)

        wait_until(lambda: command.process.poll() is not None or is_found())
        return found[0] if found else None


def _workers(name: str) -> list[psutil.Process]:
    return [each for each in processes(name) if WORKER in " ".join(command_line(each))]


def _was_refused(ended: Ended) -> bool:
    """Whether a command ended before it had begun, in one line: storage was away too long."""
    *before, last = ended.stderr.splitlines() or [""]
    began = any(line.startswith("train: ") for line in before)
    return ended.code == 1 and not began and last.startswith("error: ")


def _judge(ended: Ended, struck: Struck, *, killed: bool) -> None:
    struck.said += ended.stderr
    if ended.code != (-signal.SIGKILL if killed else 0):
        struck.problems.append(f"ended with {ended.code}: {ended.stderr[-500:]}")
    lines = ended.stderr.splitlines()
    struck.problems += [f"on stderr: {line}" for line in lines if not _SAID.match(line)]
    if not killed and ended.code == 0:
        *_, last = ended.stdout.splitlines() or [""]
        if f'"steps": {STEPS}' not in last or not last.startswith("{"):
            struck.problems.append(f"not the result in the last line: {last[:200]}")


def _half_written(output: str) -> list[str]:
    """Find files that a listing hides, as a killed writer leaves them."""
    store = open_store(output)
    if not isinstance(store, DiskStore):
        return []
    keys = {Path(store.root, entry.key) for entry in store.list()}
    found = {path for path in Path(store.root).rglob("*") if path.is_file()}
    return [f"left over: {path}" for path in sorted(found - keys)]


def _without_times(epoch: dict[str, Any]) -> dict[str, Any]:
    """Leave out times; sums are rounded, as their order depends on them."""
    kept = {name: epoch[name] for name in epoch if name not in {"seconds", "images_per_s"}}
    return kept | {"train_loss": round(epoch["train_loss"], 12)}


def _kind(key: str) -> str:
    """Name a file without what depends on times: which older checkpoints there are, and events."""
    if key.startswith("tensorboard/"):
        return "tensorboard/"
    if key.startswith("checkpoints/") and f"step-{STEPS:08}" not in key:
        return f"an older {key.rpartition('.')[2]}"
    return key
