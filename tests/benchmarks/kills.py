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
from tests.faults.training import STEPS, TrainingScene, draw_blows


@dataclass(frozen=True, kw_only=True)
class Kills:
    """Kill the driver, a worker and the storage server of small runs, in turn.

    A run of train gets all of that: a worker is killed twice, the driver once, and in a bucket,
    which takes turns with the disk, the server is away for a while.
    """

    verb: Literal["reconstruct", "ingest", "retry-failed", "train"] = "reconstruct"
    """What is disturbed; retry-failed is ingest once more, after servers have healed."""
    kills: int = 30
    """How many runs are disturbed."""
    first: int = 0
    """Number of the first, to repeat one."""
    seed: int = 0
    """What the moments derive from."""
    longest_s: float = 60
    """Of train: the storage server is away for so long at most."""


def main(config: Kills) -> int:
    """Return 1 if any run ended in another way than one in peace."""
    bad = 0
    with (
        tempfile.TemporaryDirectory(prefix="kills-") as folder,
        EmbeddedS3(Path(folder, "server"), [BUCKET]) as server,
        FaultOrigin() as origin,
    ):
        os.environ.update(server.environment)
        if config.verb == "train":
            return _strike(config, Path(folder), server)
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


def _strike(config: Kills, folder: Path, server: EmbeddedS3) -> int:
    bad = missed = 0
    scene = TrainingScene.prepare(folder / "train", server)
    print(f"in peace: {scene.seconds:.1f} s, {STEPS} steps", flush=True)
    for number in range(config.first, config.first + config.kills):
        place, blows = draw_blows(number, config.seed, longest_s=config.longest_s)
        struck = scene.strike(place, blows)
        bad += bool(struck.problems)
        missed += len(struck.missed)
        verdict = "; ".join(struck.problems) or "ended as in peace"
        told = ", ".join(f"{blow}{' (missed)' * (blow in struck.missed)}" for blow in blows)
        print(f"{number:3} {place:6} {told}: {verdict}", flush=True)
    print(f"{config.kills} runs, {missed} blows came too late, {bad} runs that differ")
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
