"""`ray job submit` of a job to a cluster: what is uploaded, and which exit code comes back."""

import os
import secrets
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sysconfig.get_path("scripts")) / "ray"
MAX_UPLOAD_BYTES = 5 * 2**20
START_LIMIT_S = 120
SUBMIT_LIMIT_S = 300


@dataclass(frozen=True)
class Cluster:
    """A Ray head on this machine, and where it keeps its files."""

    address: str
    folder: Path
    environment: dict[str, str]

    def submit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Submit the checkout with `jobs.reconstruct` as its entry point, and wait for the end."""
        command = [RAY, "job", "submit", "--address", self.address, "--working-dir", ".", "--"]
        return subprocess.run(
            [*command, "python", "-m", "jobs.reconstruct", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SUBMIT_LIMIT_S,
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Sockets lie in this folder: pytest's own is too deep for their names.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    gcs, dashboard, client = free_ports(3)
    scripts = os.pathsep.join((str(RAY.parent), os.environ.get("PATH", "")))
    # A token of its own: without one, Ray takes the one in the home folder, or asks for none.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = os.environ | {"PATH": scripts} | token
    environment.pop("RAY_ADDRESS", None)
    command = [RAY, "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"]
    ports = {
        # Named, all three: of those it picks itself Ray may pick one that it was given for another.
        "port": gcs,
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": 0,
        "min-worker-port": 0,
        "max-worker-port": 0,
    }
    command += [f"--{name}={number}" for name, number in ports.items()]
    command += [f"--object-store-memory={100 * 2**20}", f"--temp-dir={folder}"]
    log = folder / "head.log"
    with log.open("wb") as output:
        head = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        bearer = {"Authorization": f"Bearer {token['RAY_AUTH_TOKEN']}"}
        request = urllib.request.Request(f"{address}/api/version", headers=bearer)  # noqa: S310 - our own
        wait_for(request, head, log)
        yield Cluster(address, folder, environment)
    finally:
        # The whole group at once: a head that is asked politely drains for half a minute.
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(request: urllib.request.Request, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310 - our own
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"the cluster did not start: {log.read_text()}")


def write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        blocks = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        pixels = np.kron(blocks, np.ones((4, 4), np.uint8))
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_a_job_that_succeeds_exits_with_0_after_a_small_upload(
    cluster: Cluster, tmp_path: Path
) -> None:
    write_images(tmp_path / "in", 3)
    result = cluster.submit("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stdout + result.stderr
    written = {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert written == {"0.png", "1.png", "2.png"}

    packages = cluster.folder / "session_latest" / "runtime_resources" / "working_dir_files"
    (package,) = (path for path in packages.iterdir() if path.is_dir())
    assert {path.name for path in package.iterdir()} == {"jobs", "redaction_core", "pyproject.toml"}
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < MAX_UPLOAD_BYTES


def test_a_job_with_too_many_failed_inputs_exits_with_1(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no image")
    result = cluster.submit("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    assert result.returncode == 1, result.stdout + result.stderr
    assert "too_many_failures" in result.stdout
    assert "failed with exit code 1" in result.stdout


def test_a_wrong_flag_fails_the_submission(cluster: Cluster) -> None:
    result = cluster.submit("--no-such-flag", "1")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "failed with exit code 2" in result.stdout
    assert "--no-such-flag" in result.stdout
