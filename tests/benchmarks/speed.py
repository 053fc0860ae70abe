"""Measure the pipeline beside bare loops, in turn: `python -m tests.benchmarks.speed --help`."""

import json
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import open_store
from tests.benchmarks.loops import SIDE, bare_loop, documented
from tests.benchmarks.pictures import write_jpegs

ROOT = Path(__file__).resolve().parents[2]
SIDE_BEFORE = 350
BUCKET = "speed"
DISK, DISK_WHOLE = "jobs.reconstruct, disk", "jobs.reconstruct, disk, with start-up"
S3 = "jobs.reconstruct, SeaweedFS"
PILLOW = ("bare loop, Pillow, one process", "bare loop, Pillow, a process a core")
RESIZE = ("the same with a resize, one process", "the same with a resize, a process a core")
CORE = ("bare loop, our codecs, one process", "bare loop, our codecs, a process a core")
RAY, RAY_WHOLE = "Ray Data as documented", "Ray Data as documented, with start-up"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Images a second of everything in turn, several times, and ratios of the medians."""

    images: int = 2000
    """224x224 gray JPEG files, pixelate:4."""
    rounds: int = 3
    """How often everything is measured."""
    shard_size: int = 100
    """Of our pipeline."""
    only: str = ""
    """A pattern: leave out what does not match it."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a ratio of two medians must reach."""

    text: str
    ours: str
    theirs: tuple[str, ...]
    """The fastest of these counts."""
    least: float


TARGETS = (
    Target(text="bare Pillow loop", ours=DISK, theirs=PILLOW, least=1),
    Target(text="bare Pillow loop that resizes from 350x350", ours=DISK, theirs=RESIZE, least=1.3),
    Target(text="bare loop with our codecs", ours=DISK, theirs=CORE, least=0.9),
    Target(text="Ray Data as documented", ours=DISK, theirs=(RAY,), least=4),
    Target(text="the same with start-up", ours=DISK_WHOLE, theirs=(RAY_WHOLE,), least=2),
    Target(text="SeaweedFS against disk", ours=S3, theirs=(DISK,), least=0.6),
)


def main(config: Speed) -> int:
    """Return 1 if a ratio misses its target."""
    rates: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="speed-") as folder,
        EmbeddedS3(Path(folder, "server"), [BUCKET]) as server,
    ):
        os.environ.update(server.environment)
        source, larger, target = Path(folder, "in"), Path(folder, "larger"), Path(folder, "out")
        write_jpegs(source, config.images, SIDE)
        write_jpegs(larger, config.images, SIDE_BEFORE)
        _upload(source)
        cores = os.cpu_count() or 1
        runs: dict[str, Callable[[], dict[str, float]]] = {
            DISK: partial(_ours, config, str(source), str(target), (DISK, DISK_WHOLE)),
            S3: partial(_ours, config, f"s3://{BUCKET}/in", f"s3://{BUCKET}/out", (S3,)),
            **{
                names[each]: partial(_bare, names[each], pictures, target, codecs, processes)
                for names, pictures, codecs in (
                    (PILLOW, source, "pillow"),
                    (RESIZE, larger, "pillow"),
                    (CORE, source, "core"),
                )
                for each, processes in enumerate((1, cores))
            },
            RAY: partial(_documented, source, target),
        }
        for number in range(config.rounds):
            for name, run in runs.items():
                if not re.search(config.only, name):
                    continue
                for measured, rate in run().items():
                    rates.setdefault(measured, []).append(rate)
                    print(f"{number + 1}/{config.rounds} {measured}: {rate:.1f}", flush=True)
                shutil.rmtree(target, ignore_errors=True)
    return _report(rates)


def _upload(source: Path) -> None:
    store = open_store(f"s3://{BUCKET}/in")
    for path in source.iterdir():
        store.put(path.name, path.read_bytes())


def _ours(config: Speed, source: str, target: str, names: tuple[str, ...]) -> dict[str, float]:
    """Steady state: the rate from the first committed shard to the last, as the job reports it."""
    command = [sys.executable, "-m", "jobs.reconstruct", "--redact", "pixelate:4", "--overwrite"]
    command += ["--input", source, "--output", target, "--shard-size", str(config.shard_size)]
    started = time.monotonic()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    steady = re.findall(rf"{config.images} of {config.images}, (\d+) images/s", result.stderr)
    # When the first shard is done, the other workers have nearly done theirs.
    workers = os.cpu_count() or 1
    left = config.images - workers * config.shard_size
    share = left / (config.images - config.shard_size)
    rates = (float(steady[-1]) * share, config.images / seconds)
    return dict(zip(names, rates, strict=False))


def _bare(name: str, source: Path, target: Path, codecs: str, processes: int) -> dict[str, float]:
    return {name: bare_loop(source, target, codecs, processes)}


def _documented(source: Path, target: Path) -> dict[str, float]:
    begun = target.with_name("begun")
    begun.unlink(missing_ok=True)
    started = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=documented, args=(source, target, begun))
    process.start()
    process.join()
    seconds = time.monotonic() - started
    times = [path.stat().st_mtime for path in target.iterdir()]
    steady_s = max(times) - begun.stat().st_mtime
    return {RAY: len(times) / steady_s, RAY_WHOLE: len(times) / seconds}


def _report(rates: dict[str, list[float]]) -> int:
    print("\nimages a second: median (lowest to highest)")
    middle = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"  {name:46}{middle[name]:7.1f}  ({min(values):.1f} to {max(values):.1f})")
    missed = 0
    print("\nratios of the medians")
    for target in TARGETS:
        theirs = [middle[name] for name in target.theirs if name in middle]
        if target.ours in middle and theirs:
            ratio = middle[target.ours] / max(theirs)
            missed += ratio < target.least
            verdict = "" if ratio >= target.least else "  MISSED"
            print(f"  {target.text:46}{ratio:7.2f}  (at least {target.least:g}){verdict}")
    print(json.dumps({"images_per_second": rates}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Speed)))
