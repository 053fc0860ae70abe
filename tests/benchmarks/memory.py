"""Peak memory of driver and workers for few and many images: `... memory --help`."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro

from tests.benchmarks.pictures import write_jpegs

ROOT = Path(__file__).resolve().parents[2]
SIDE = 64
EVERY_S = 0.2
AT_MOST = 1.3
DRIVER, WORKER = "driver", "largest worker"
WORKER_TITLE = "ray::MapWorker"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Run jobs.reconstruct on few and on many images, and compare the peaks of its processes."""

    few: int = 1000
    many: int = 20_000
    shard_size: int = 100


def main(config: Memory) -> int:
    """Return 1 if a peak grows with the number of images."""
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        few, many = (_run(Path(folder), n, config) for n in (config.few, config.many))
    return compare(config.few, few, config.many, many)


def compare(few: int, few_mib: dict[str, float], many: int, many_mib: dict[str, float]) -> int:
    """Print the peaks of two runs side by side; gives 1 if one grows with the number of inputs."""
    missed = 0
    print(f"\npeak resident memory, MiB: {few} inputs, {many} inputs, ratio")
    for name, peak in many_mib.items():
        ratio = peak / few_mib[name]
        missed += ratio > AT_MOST
        print(f"  {name:24}{few_mib[name]:8.0f}{peak:8.0f}{ratio:7.2f}  (at most {AT_MOST})")
    print(json.dumps({"few": few_mib, "many": many_mib}))
    return 1 if missed else 0


def _run(folder: Path, images: int, config: Memory) -> dict[str, float]:
    source, target = folder / f"in-{images}", folder / f"out-{images}"
    write_jpegs(source, images, SIDE)
    command = [sys.executable, "-m", "jobs.reconstruct", "--redact", "pixelate:4"]
    command += ["--input", str(source), "--output", str(target)]
    command += ["--shard-size", str(config.shard_size)]
    return peaks(command, f"{images} images")


def peaks(command: list[str], what: str) -> dict[str, float]:
    """Run a job; gives the peak MiB of its driver, and of the worker that takes most."""
    found: dict[str, dict[int, int]] = {DRIVER: {}, WORKER: {}}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as job:
        driver = psutil.Process(job.pid)
        while job.poll() is None:
            for process in [driver, *driver.children(recursive=True)]:
                _sample(process, driver, found)
            time.sleep(EVERY_S)
    if job.returncode:
        raise RuntimeError(f"the job ended with {job.returncode}")
    listed = {
        name: sorted(round(peak / 2**20) for peak in each.values()) for name, each in found.items()
    }
    print(f"{what}: MiB at the peak of each process: {listed}", flush=True)
    return {name: max(each.values()) / 2**20 for name, each in found.items()}


def _sample(
    process: psutil.Process, driver: psutil.Process, peaks: dict[str, dict[int, int]]
) -> None:
    try:
        title = DRIVER if process == driver else WORKER
        if title == WORKER and WORKER_TITLE not in " ".join(process.cmdline()):
            return
        resident = process.memory_info().rss
    except psutil.NoSuchProcess:
        return
    peaks[title][process.pid] = max(resident, peaks[title].get(process.pid, 0))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Memory)))
