"""A Ray cluster on this machine: a head and workers, every one a process group of its own."""

import contextlib
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.command import ROOT
from tests.ports import free_ports

RAY = Path(sysconfig.get_path("scripts")) / "ray"
_START_LIMIT_S = 120
_SUBMIT_LIMIT_S = 300
_STARTS = 3
"""A node that does not come up (somebody else took a port of it) is started anew so often."""


class LocalCluster:
    """Nodes with a token of their own; none runs before `add` is called.

    The first is the head. With `dashboard` it takes jobs at `address`; without, they join it by
    `environment`.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, dashboard: bool = False
    ) -> None:
        """Take what is to be in the environment of all nodes."""
        self.folder = folder
        # Chosen at once, so that no two are the same; Ray would pick others that are taken.
        self._gcs, self._client, dashboard_port = free_ports(3)
        self._dashboard = dashboard_port if dashboard else None
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._metrics: list[int] = []
        # A token of its own: without one, Ray takes the one in the home folder, or asks for none.
        self.token = secrets.token_hex(32)
        self._environment = {
            **environment,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "PATH": os.pathsep.join((str(RAY.parent), os.environ.get("PATH", ""))),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.environment = {**self._environment, "RAY_ADDRESS": f"127.0.0.1:{self._gcs}"}
        """For commands that are to join it."""

    @property
    def address(self) -> str:
        """Where jobs are submitted."""
        return f"http://127.0.0.1:{self._dashboard}"

    def add(self, cpus: int = 1, environment: Mapping[str, str] | None = None) -> int:
        """Start a node, with more in its environment; gives its number."""
        number = len(self._nodes)
        for _ in range(_STARTS):
            (metrics,) = free_ports(1)
            node, said = self._start(number, metrics, cpus, environment or {})
            if node.poll() is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
        else:
            raise AssertionError(said)
        self._nodes.append(node)
        self._metrics.append(metrics)
        if not number and self._dashboard is not None:
            wait_until(self._answers)
        return number

    def _start(
        self, number: int, metrics: int, cpus: int, environment: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes], str]:
        """Start a node, and wait until it is up or has ended; gives what it said, too."""
        command = [str(RAY), "start", "--block", "--disable-usage-stats", f"--num-cpus={cpus}"]
        command += [f"--object-store-memory={100 * 2**20}", "--node-ip-address=127.0.0.1"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]
        command += ["--dashboard-agent-listen-port=0", f"--metrics-export-port={metrics}"]
        # As on a machine of its own: nodes would unpack uploads under each other's feet.
        command += [f"--temp-dir={self.temp_dir(number)}"]
        if number:
            command += [f"--address=127.0.0.1:{self._gcs}"]
        else:
            command += ["--head", f"--port={self._gcs}"]
            command += [f"--ray-client-server-port={self._client}"]
            command += [f"--include-dashboard={self._dashboard is not None}"]
            command += [f"--dashboard-port={self._dashboard}"] * (self._dashboard is not None)
        variables = {**os.environ, **self._environment, **environment}
        variables.pop("RAY_ADDRESS", None)
        log = self.folder / f"node-{number}.log"
        with log.open("wb") as output:
            node = subprocess.Popen(
                command, env=variables, stdout=output, stderr=output, start_new_session=True
            )
        # One after the other: nodes of one machine that start at once get in each other's way.
        wait_until(lambda: node.poll() is not None or "Ray runtime started" in log.read_text())
        return node, log.read_text()

    def temp_dir(self, number: int) -> Path:
        """Give the folder where a node keeps its files."""
        return self.folder / str(number)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._request("/api/version"), timeout=5):  # noqa: S310 - our own
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _request(self, path: str) -> urllib.request.Request:
        bearer = {"Authorization": f"Bearer {self.token}"}
        return urllib.request.Request(self.address + path, headers=bearer)  # noqa: S310 - our own

    def metrics(self) -> str:
        """Give what the nodes that live tell Prometheus."""
        found = []
        for node, port in zip(self._nodes, self._metrics, strict=True):
            if node.poll() is None:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    found.append(answer.read().decode())
        return "\n".join(found)

    def submit(
        self, verb: str, *flags: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Submit the checkout as the README has it, and wait for the end."""
        command = self.submission(verb, *flags)
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **self._environment, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=_SUBMIT_LIMIT_S,
        )

    def submission(self, verb: str, *flags: str) -> list[str]:
        """Give the command that submits a job."""
        ray = [str(RAY), "job", "submit", "--address", self.address, "--working-dir", "."]
        return [*ray, "--", "python", "-m", f"jobs.{verb}", *flags]

    def kill(self, number: int) -> None:
        """End all processes of a node at once, as a power cut would."""
        node = self._nodes[number]
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()

    def close(self) -> None:
        """End all nodes."""
        for number in reversed(range(len(self._nodes))):
            self.kill(number)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def local_cluster(
    environment: Mapping[str, str] | None = None, *, dashboard: bool = False
) -> Iterator[LocalCluster]:
    """Open a cluster without nodes, and end it."""
    # Sockets lie in this folder: pytest's own is too deep for their names.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with ExitStack() as stack:
        cluster = LocalCluster(folder, environment or {}, dashboard=dashboard)
        stack.callback(cluster.close)
        yield cluster


def wait_until(condition: Callable[[], bool], limit_s: float = _START_LIMIT_S) -> None:
    """Ask again and again until it holds; fails after the limit."""
    ends = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)
