"""Runs that are disturbed by a kill at a random moment, run again, and compared with one in peace.

Kills are SIGKILL: of the driver, of a worker, of the storage server. Everything random derives
from a seed and the number of the kill.
"""

import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

import psutil

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import Store, open_store
from tests.command import Command, Ended, Output, run
from tests.poison import packed, picture

BUCKET = "kills"
IMAGES = 42
SHARD_SIZE = 6
FLAGS = ("--redact", "pixelate:8", "--shard-size", str(SHARD_SIZE), "--workers", "2")

Victim = Literal["driver", "worker", "server"]
VICTIMS: tuple[Victim, ...] = get_args(Victim)

MARK = "REDACTION_TESTS_RUN"
_SAID = re.compile(
    r"planned |going on with |\d+ of \d+ shards are done|(reconstruct|ingest|audit): |"
    r"error: cannot |$"
)
_ENDED_S = 300.0
_DOWN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What is killed, and when."""

    victim: Victim
    place: Literal["disk", "bucket"]
    clock: Literal["files", "time"]
    """What the moment is a share of: the files of a finished output, or its time."""
    moment: float
    pause_s: float
    """After the moment: between two files, too, things happen."""
    returns: bool
    """The storage server comes back while the command still tries."""

    @classmethod
    def draw(cls, number: int, seed: int) -> "Kill":
        """Take victims and places in turn, and the moment at random."""
        chance = random.Random(f"{seed}-{number}")
        turn, place = number % len(VICTIMS), number // len(VICTIMS) % 2
        return cls(
            victim=VICTIMS[turn],
            place="bucket" if VICTIMS[turn] == "server" or place else "disk",
            clock=chance.choice(("files", "files", "time")),
            moment=chance.random(),
            pause_s=chance.choice((0, chance.uniform(0, 0.1), chance.uniform(0, 1))),
            returns=chance.random() < 0.5,
        )


@dataclass(kw_only=True)
class Report:
    """What became of a disturbed run."""

    kill: Kill
    hit: bool = False
    """The command was still running."""
    files: int = 0
    """How many the output had at the kill."""
    problems: list[str] = field(default_factory=list)


class Subject(Protocol):
    """A verb that is disturbed, with inputs for it."""

    verb: str
    workers: Sequence[str]
    """What the command lines of its workers contain, one or the other."""

    def write(self, place: Store) -> None:
        """Write the inputs to a place."""

    def flags(self, root: str) -> Sequence[str]:
        """Give all flags but the output, with the inputs at a place."""

    def begin(self, output: str) -> None:
        """Get ready for a run, and for its rerun, to this output."""

    def read(self, output: str) -> Output:
        """Read what must be the same after every kill."""

    def check(self, output: str) -> None:
        """Assert that a run in peace did all that kills should disturb."""


class Reconstruction:
    """A folder of images, one of which is none."""

    verb = "reconstruct"
    workers = ("ShardWorker",)

    def write(self, place: Store) -> None:
        """See `Subject.write`."""
        for number in range(IMAGES):
            pixels = picture(64, 64, channels=3 if number % 4 == 0 else 1, seed=number)
            data = packed(pixels) if number != IMAGES // 2 else b"not an image"
            place.put(f"input/{number:02}.png", data)

    def flags(self, root: str) -> Sequence[str]:
        """See `Subject.flags`."""
        return ("--input", f"{root}/input", *FLAGS)

    def begin(self, output: str) -> None:
        """See `Subject.begin`."""

    def read(self, output: str) -> Output:
        """See `Subject.read`."""
        return Output.read(output)

    def check(self, output: str) -> None:
        """See `Subject.check`."""
        assert len(Output.read(output).rows) == IMAGES


@dataclass(kw_only=True)
class Scene:
    """Inputs on disk and in a bucket, and what a run in peace makes of them."""

    folder: Path
    server: EmbeddedS3
    subject: Subject
    expected: Output
    first_files: int
    """How many an output has before its run begins."""
    seconds: float

    @classmethod
    def prepare(cls, folder: Path, server: EmbeddedS3, subject: Subject) -> "Scene":
        """Write the inputs, and run once in peace; the environment leads to the server.

        The folder's name is that of the scene's place in the bucket, too.
        """
        for root in (str(folder), in_bucket(folder)):
            subject.write(open_store(root))
        output = f"{folder}/out"
        subject.begin(output)
        first_files = _count(open_store(output).list(missing_ok=True))
        started = time.monotonic()
        flags = (*subject.flags(str(folder)), "--output", output)
        ended = run(folder / "peace", *flags, verb=subject.verb)
        assert ended.code == 0, ended.stderr
        seconds = time.monotonic() - started
        subject.check(output)
        return cls(
            folder=folder,
            server=server,
            subject=subject,
            expected=subject.read(output),
            first_files=first_files,
            seconds=seconds,
        )

    def disturb(self, kill: Kill) -> Report:
        """Run, kill, run again if need be, and compare."""
        report = Report(kill=kill)
        name = uuid.uuid4().hex
        root = str(self.folder) if kill.place == "disk" else in_bucket(self.folder)
        output = f"{root}/{name}"
        flags = (*self.subject.flags(root), "--output", output)
        verb = self.subject.verb
        self.subject.begin(output)
        environment = {MARK: name}
        if kill.victim == "server" and not kill.returns:
            environment["REDACTION_STORAGE_RETRY_S"] = "1"
        log = self.folder / "logs" / name
        command = Command.start(log / "first", *flags, verb=verb, environment=environment)
        self._wait_for(kill, command, output, report)
        self._kill(kill, command, name, report)
        ended = command.wait()
        if kill.victim == "server" and self.server.pid is None:
            self.server.start()
        _judge(kill, ended, report)
        if ended.code != 0:
            # At once: what the killed run left behind may still be at work.
            again = run(log / "again", *flags, verb=verb, environment={MARK: name})
            report.problems += odd_lines(again)
            if again.code != 0:
                report.problems.append(f"the rerun ended with {again.code}: {again.stderr[-500:]}")
        report.problems += differences(self.subject.read(output), self.expected)
        report.problems += [f"left running: {process}" for process in left_running(name)]
        return report

    def _wait_for(self, kill: Kill, command: Command, output: str, report: Report) -> None:
        started = time.monotonic()
        store = open_store(output)
        own_files = len(self.expected.names) - self.first_files

        def reached() -> bool:
            if kill.clock == "time":
                return time.monotonic() - started >= kill.moment * self.seconds
            files = _count(store.list(missing_ok=True))
            return files - self.first_files >= kill.moment * own_files

        wait_until(lambda: command.process.poll() is not None or reached())
        time.sleep(kill.pause_s)
        report.files = _count(store.list(missing_ok=True))

    def _kill(self, kill: Kill, command: Command, name: str, report: Report) -> None:
        if kill.victim == "server":
            report.hit = command.process.poll() is None
            self.server.kill()
            if kill.returns:
                time.sleep(_DOWN_S)
                self.server.start()
            return
        victims: list[psutil.Process] = []

        def found() -> bool:
            victims[:] = [psutil.Process(command.process.pid)] * (kill.victim == "driver")
            victims.extend(self._workers(name) if kill.victim == "worker" else ())
            return bool(victims)

        wait_until(lambda: command.process.poll() is not None or found())
        if command.process.poll() is None:
            report.hit = True
            random.Random(kill.moment).choice(victims).kill()

    def _workers(self, name: str) -> Iterator[psutil.Process]:
        for process in processes(name):
            title = " ".join(command_line(process))
            if any(part in title for part in self.subject.workers):
                yield process


def differences(found: Output, expected: Output) -> list[str]:
    """Say in which ways an output is not that of the run in peace."""
    problems = [f"left over: {path}" for path in found.temporary]
    names, wanted = (Counter(map(_without_hash, each.names)) for each in (found, expected))
    problems += [f"superfluous: {name}" for name in names - wanted]
    problems += [f"missing: {name}" for name in wanted - names]
    for key, data in expected.images.items():
        if found.images.get(key) != data:
            problems.append(f"other bytes: {key}")
    if [row["key"] for row in found.rows] != [row["key"] for row in expected.rows]:
        problems.append("not one row an input")
        return problems
    for row, wanted_row in zip(found.rows, expected.rows, strict=True):
        other = [f"{name}={row[name]}" for name in row if row[name] != wanted_row[name]]
        problems += [f"other row of {row['key']}: {', '.join(other)}"] if other else []
    return problems


def _judge(kill: Kill, ended: Ended, report: Report) -> None:
    """Compare how the disturbed command ended with what a person may expect."""
    may_fail = kill.victim == "driver" or (kill.victim == "server" and not kill.returns)
    if not may_fail and ended.code != 0:
        report.problems.append(f"ended with {ended.code}: {ended.stderr[-500:]}")
    elif kill.victim == "server" and ended.code not in {0, 1}:
        report.problems.append(f"ended with {ended.code}, not 1")
    elif kill.victim == "server" and ended.code == 1 and ended.stderr.count("error: ") != 1:
        report.problems.append(f"not one line of error: {ended.stderr[-500:]}")
    report.problems += odd_lines(ended)


def odd_lines(ended: Ended) -> list[str]:
    """Find what a person should not see on stderr."""
    lines = ended.stderr.splitlines()
    return [f"on stderr: {line}" for line in lines if not _SAID.match(line)]


def left_running(name: str) -> list[str]:
    """Wait for all processes of a run to end; give, and end, those that do not."""
    end = time.monotonic() + _ENDED_S
    while (left := list(processes(name))) and time.monotonic() < end:
        time.sleep(0.2)
    for process in left:
        process.kill()
    return [" ".join(command_line(process))[:80] for process in left]


def processes(name: str) -> Iterator[psutil.Process]:
    """Find the processes that a run started: their environment has its mark."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == name and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def command_line(process: psutil.Process) -> Sequence[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return ()


def in_bucket(folder: Path) -> str:
    return f"s3://{BUCKET}/{folder.name}"


def _without_hash(name: str) -> str:
    return re.sub(r"[0-9a-f]{16}", "*", name)


def _count(entries: Iterator[object]) -> int:
    return sum(1 for _ in entries)


def wait_until(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.02)
