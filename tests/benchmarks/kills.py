"""Kill runs at random moments, run them again, compare: `... --verb ingest --kills 20 --seed 0`."""

import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from redaction_core.embedded_s3 import EmbeddedS3
from tests.data_sets import Ingestion, Retries
from tests.fault_origin import FaultOrigin
from tests.faults.harness import BUCKET, Kill, Reconstruction, Scene


@dataclass(frozen=True, kw_only=True)
class Kills:
    """Kill the driver, a worker and the storage server of small runs, in turn."""

    verb: Literal["reconstruct", "ingest", "retry-failed"] = "reconstruct"
    """What is disturbed; retry-failed is ingest once more, after servers have healed."""
    kills: int = 30
    """How many."""
    first: int = 0
    """Number of the first, to repeat one."""
    seed: int = 0
    """What the moments derive from."""


def main(config: Kills) -> int:
    """Return 1 if any run ended in another way than one in peace."""
    bad = 0
    with (
        tempfile.TemporaryDirectory(prefix="kills-") as folder,
        EmbeddedS3(Path(folder, "server"), [BUCKET]) as server,
        FaultOrigin() as origin,
    ):
        os.environ.update(server.environment)
        scene = _prepare(config.verb, Path(folder), server, origin)
        print(f"in peace: {scene.seconds:.1f} s, {len(scene.expected.names)} files", flush=True)
        for number in range(config.first, config.first + config.kills):
            kill = Kill.draw(number, config.seed)
            report = scene.disturb(kill)
            while not report.hit and not report.problems:  # it had ended before
                kill = replace(kill, moment=kill.moment / 2, pause_s=kill.pause_s / 2)
                report = scene.disturb(kill)
            bad += bool(report.problems)
            verdict = "; ".join(report.problems) or "ended as in peace"
            where = f"{kill.victim:6} {kill.place:6} {kill.moment:4.0%} of its {kill.clock}"
            print(f"{number:3} {where}, at {report.files:2} files: {verdict}", flush=True)
    print(f"{config.kills} kills, {bad} runs that differ")
    return 1 if bad else 0


def _prepare(verb: str, folder: Path, server: EmbeddedS3, origin: FaultOrigin) -> Scene:
    if verb == "reconstruct":
        return Scene.prepare(folder / verb, server, Reconstruction())
    first = Scene.prepare(folder / "ingest", server, Ingestion(origin))
    if verb == "ingest":
        return first
    return Scene.prepare(folder / verb, server, Retries(origin, str(first.folder)))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Kills)))
