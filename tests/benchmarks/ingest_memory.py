"""Peak memory of driver and workers for few and many URLs: `... ingest_memory --help`.

A data set of the size that the published work had, from a web server on this machine. Needs nginx.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.benchmarks.ingest_speed import nginx
from tests.benchmarks.memory import compare, peaks
from tests.benchmarks.pictures import write_jpegs

SIDE = 350


@dataclass(frozen=True, kw_only=True)
class IngestMemory:
    """Run jobs.ingest on few and on many URLs, and compare the peaks of its processes."""

    few: int = 30_000
    many: int = 300_000
    pictures: int = 5_000
    """Different files behind the URLs; each URL has a query string of its own."""
    shard_size: int = 1000


def main(config: IngestMemory) -> int:
    """Return 1 if a peak grows with the number of URLs."""
    with tempfile.TemporaryDirectory(prefix="ingest-memory-") as name:
        folder = Path(name)
        write_jpegs(folder / "www", config.pictures, SIDE)
        with nginx(folder / "nginx", folder / "www") as origin:
            few, many = (_run(folder, origin, n, config) for n in (config.few, config.many))
    return compare(config.few, few, config.many, many)


def _run(folder: Path, origin: str, count: int, config: IngestMemory) -> dict[str, float]:
    urls, target = folder / "urls.txt", folder / "out"
    with urls.open("w") as file:
        for number in range(count):
            file.write(f"{origin}/{number % config.pictures:06d}.jpg?{number}\n")
    command = [sys.executable, "-m", "jobs.ingest", "--urls", str(urls), "--output", str(target)]
    command += ["--allow-private-hosts", "127.0.0.1", "--shard-size", str(config.shard_size)]
    found = peaks(command, f"{count} URLs")
    summary = json.loads((target / "dataset.json").read_text())
    if summary["ok"] != count:
        raise RuntimeError(f"not every URL is an image: {summary}")
    shutil.rmtree(target)
    return found


if __name__ == "__main__":
    sys.exit(main(tyro.cli(IngestMemory)))
