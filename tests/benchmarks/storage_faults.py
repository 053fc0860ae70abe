"""Whole commands while S3 misbehaves: `python -m tests.benchmarks.storage_faults`.

Every verb runs once in peace, once with one request in ten spoilt, once more with a minute in its
middle in which every request is, and, past the bound, up to exit code 1 and again.
"""

import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from redaction_core.embedded_s3 import EmbeddedS3
from tests import command
from tests.faults.harness import BUCKET, Reconstruction, Scene, Subject
from tests.faults.storms import RATE, Audits, Pictures, Voyage, figures, leading_to
from tests.faults.training import TrainingScene
from tests.integration.faulty_proxy import FaultyProxy

SUBJECTS: dict[str, type[Subject]] = {
    "ingest": Pictures,
    "reconstruct": Reconstruction,
    "audit": Audits,
}


@dataclass(frozen=True, kw_only=True)
class StorageFaults:
    """Spoil the requests of small runs, and compare what they leave with that of runs in peace."""

    verbs: tuple[Literal["ingest", "reconstruct", "audit", "train"], ...] = (
        *("ingest", "reconstruct", "audit", "train"),
    )
    """What is disturbed."""
    rate: float = RATE
    """Share of the requests that are spoilt."""
    storm_s: float = 60
    """All of them are, in the middle of the second run, for so long."""
    seed: int = 0
    """What the faults derive from."""
    timeout_s: float = 30
    """REDACTION_STORAGE_TIMEOUT_S: what a stall costs."""
    limit_s: int = 1800
    """A command that takes longer hangs."""


class Soak:
    """Proxies before one server, and what came of the runs behind them."""

    def __init__(self, config: StorageFaults, server: EmbeddedS3) -> None:
        self.bad = 0
        self._config = config
        self._server = server

    @contextmanager
    def proxy(self, number: int) -> Iterator[FaultyProxy]:
        """Open the next proxy."""
        config = self._config
        seed = config.seed + number
        with FaultyProxy(self._server.endpoint, rate=config.rate, seed=seed) as proxy:
            yield proxy

    def tell(self, what: str, proxy: FaultyProxy, started: float, problems: list[str]) -> None:
        """Print one line."""
        self.bad += bool(problems)
        seconds = time.monotonic() - started
        verdict = "FAIL" if problems else "PASS"
        print(f"{verdict} {what}: {figures(proxy)}, {seconds:.0f} s", flush=True)
        for problem in problems[:5]:
            print(f"     {problem}", flush=True)

    def disturb(self, verb: str, folder: Path) -> None:
        """Do the runs of a verb with shards."""
        scene = Scene.prepare(folder / verb, self._server, SUBJECTS[verb]())
        print(f"     {verb} in peace: {scene.seconds:.0f} s", flush=True)
        half = 0
        for number, name in enumerate(("rate", "storm")):
            with self.proxy(number) as proxy:
                voyage, started = Voyage.of(scene, proxy, name), time.monotonic()
                if half:
                    proxy.storm(self._config.storm_s, after=half)
                problems = voyage.problems(voyage.run({}))
                self.tell(f"{verb}, {self._what(half)}", proxy, started, problems)
                half = proxy.requests // 2
        with self.proxy(2) as proxy:
            voyage, started = Voyage.of(scene, proxy, "bound"), time.monotonic()
            proxy.storm(math.inf, after=half)
            ended = voyage.run({"REDACTION_STORAGE_RETRY_S": "5"})
            problems = voyage.refusal(ended)
            self.tell(f"{verb}, gives up past the bound", proxy, started, problems)
            proxy.calm()
            started = time.monotonic()
            self.tell(f"{verb}, again", proxy, started, voyage.problems(voyage.run({})))
            output = ("--output", voyage.output)
            started, environment = time.monotonic(), {"AWS_ENDPOINT_URL": proxy.endpoint}
            ended = command.run(folder / "verify", *output, verb="verify", environment=environment)
            self.tell(f"verify of {verb}", proxy, started, [ended.stderr] * (ended.code != 0))

    def train(self, folder: Path) -> None:
        """Do the same with a training, whose uploads wait in the background."""
        scene = TrainingScene.prepare(folder / "train", self._server)
        print(f"     train in peace: {scene.seconds:.0f} s", flush=True)
        half = 0
        for number in range(2):
            with self.proxy(number) as proxy, leading_to(proxy.endpoint):
                started = time.monotonic()
                if half:
                    proxy.storm(self._config.storm_s, after=half)
                problems = scene.strike("bucket", ()).problems
                self.tell(f"train, {self._what(half)}", proxy, started, problems)
                half = proxy.requests // 2

    def _what(self, half: int) -> str:
        storm = f", and 100 % for {self._config.storm_s:g} s" if half else ""
        return f"{self._config.rate:.0%} of requests spoilt{storm}"


def main(config: StorageFaults) -> int:
    """Return 1 if any run ended in another way than one in peace."""
    command.LIMIT_S = config.limit_s
    with (
        tempfile.TemporaryDirectory(prefix="storms-") as folder,
        EmbeddedS3(Path(folder, "server"), [BUCKET]) as server,
    ):
        os.environ.update(server.environment)
        os.environ["REDACTION_STORAGE_TIMEOUT_S"] = f"{config.timeout_s}"
        soak = Soak(config, server)
        for verb in config.verbs:
            if verb == "train":
                soak.train(Path(folder))
            else:
                soak.disturb(verb, Path(folder))
    print(f"{'FAIL' if soak.bad else 'PASS'}: {soak.bad} runs that differ")
    return 1 if soak.bad else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(StorageFaults)))
