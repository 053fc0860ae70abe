"""Build a data set from a web server beside img2dataset and plain Ray Data, in turn.

    python -m tests.benchmarks.ingest_speed --images faces.tar --rounds 3

Needs nginx, and a tar file of images. img2dataset is installed into an environment of its own.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from tests.benchmarks.documented_ingest import documented

ROOT = Path(__file__).resolve().parents[2]
OURS, THEIRS, RAY = "jobs.ingest", "img2dataset", "Ray Data as documented, from disk"
IMG2DATASET = "img2dataset==1.47.0"
AT_LEAST = {THEIRS: 2.5, RAY: 3.0}
_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; keepalive_requests 100000; types {{ image/jpeg jpg; }}
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class IngestSpeed:
    """Images a second, start-up included, and ratios of the medians."""

    images: Path
    """Tar file of JPEG files; what is not in its largest folder is left out."""
    copies: int = 3
    """How often each file is in the list, with another query string each time."""
    rounds: int = 3
    """How often everything is measured."""
    img2dataset: Path | None = None
    """Its python, in an environment of its own; default: one is made."""


def main(config: IngestSpeed) -> int:
    """Return 1 if a ratio misses its target."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="ingest-speed-") as name:
        folder = Path(name)
        theirs = config.img2dataset or _environment(folder / "img2dataset")
        names = _unpack(config.images, folder / "www")
        target = folder / "out"
        with nginx(folder / "nginx", folder / "www") as origin:
            urls = folder / "urls.txt"
            urls.write_text(
                "".join(
                    f"{origin}/{each}?copy={copy}\n"
                    for copy in range(config.copies)
                    for each in names
                )
            )
            count = len(names) * config.copies
            runs: dict[str, Callable[[], int]] = {
                OURS: partial(_ours, urls, target),
                THEIRS: partial(_img2dataset, theirs, urls, target),
                RAY: partial(_documented, folder / "www", target),
            }
            for number in range(config.rounds):
                for run, measured in runs.items():
                    started = time.monotonic()
                    done = measured()
                    rate = done / (time.monotonic() - started)
                    seconds.setdefault(run, []).append(rate)
                    print(f"{number + 1}/{config.rounds} {run}: {rate:.0f} images/s", flush=True)
                    shutil.rmtree(target, ignore_errors=True)
    return _report(seconds, count)


@contextlib.contextmanager
def nginx(folder: Path, root: Path) -> Iterator[str]:
    """Serve a folder on a free port; gives the URL."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, root=root, port=port))
    # Its workers may run as another user.
    for path in (root, *root.rglob("*"), root.parent, folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit("nginx is missing: apt-get install nginx-light")
    server = subprocess.Popen([program, "-c", str(config), "-p", str(folder)])
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", IMG2DATASET], check=True)
    return python


def _unpack(archive: Path, www: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        tar.extractall(www, filter="data")
    folders = (path for path in (www, *www.rglob("*")) if path.is_dir())
    largest = max(folders, key=lambda path: sum(1 for _ in path.glob("*.jpg")))
    return sorted(str(path.relative_to(www)) for path in largest.glob("*.jpg"))


def _ours(urls: Path, target: Path) -> int:
    command = [sys.executable, "-m", "jobs.ingest", "--urls", str(urls), "--output", str(target)]
    command += ["--allow-private-hosts", "127.0.0.1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(result.stdout.splitlines()[-1])
    if told["ok"] != told["inputs"]:
        raise RuntimeError(result.stdout)
    return int(told["inputs"])


def _img2dataset(python: Path, urls: Path, target: Path) -> int:
    command = [str(python.parent / "img2dataset"), "--url_list", str(urls)]
    command += ["--output_folder", str(target), "--output_format", "parquet"]
    command += ["--image_size", "224", "--processes_count", "2", "--thread_count", "64"]
    command += ["--enable_wandb", "False"]
    subprocess.run(command, cwd=target.parent, capture_output=True, check=True)
    stats = [json.loads(path.read_text()) for path in target.glob("*_stats.json")]
    if not stats or any(each["successes"] != each["count"] for each in stats):
        raise RuntimeError(f"img2dataset did not fetch everything: {stats}")
    return sum(each["successes"] for each in stats)


def _documented(www: Path, target: Path) -> int:
    command = [sys.executable, "-c", "import sys; from tests.benchmarks.documented_ingest import *"]
    command[-1] += "; documented(*sys.argv[1:])"
    result = subprocess.run(
        [*command, str(www), str(target)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(result.stdout.splitlines()[-1])


def _report(rates: dict[str, list[float]], count: int) -> int:
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"\n{count} URLs: images a second, start-up included: median (lowest to highest)")
    for name, values in rates.items():
        print(f"  {name:36}{middle[name]:7.0f}  ({min(values):.0f} to {max(values):.0f})")
    missed = 0
    print("\nratios of the medians")
    for name, least in AT_LEAST.items():
        ratio = middle[OURS] / middle[name]
        missed += ratio < least
        verdict = "" if ratio >= least else "  MISSED"
        print(f"  against {name:36}{ratio:7.2f}  (at least {least:g}){verdict}")
    return 1 if missed else 0


__all__ = ["documented", "main", "nginx"]

if __name__ == "__main__":
    sys.exit(main(tyro.cli(IngestSpeed)))
