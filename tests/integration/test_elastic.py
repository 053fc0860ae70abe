"""`jobs.train --workers MIN:MAX` on a real cluster, while nodes join it and one of them dies."""

import os
import secrets
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from redaction_core.checkpoints import load_model
from tests.command import Command
from tests.faults.traces import Trace
from tests.ports import free_ports
from tests.unit.training_sets import smooth_images, write_data_set

RAY = Path(sysconfig.get_path("scripts")) / "ray"
LIMIT_S = 240
BATCH_SIZE = 12
"""A whole batch falls into equal shares for 1, 2 and 3 workers: shares tell how many there were."""
TRAIN, VAL, SIDE = 26, 8, 128
REPEATS, EPOCHS = 25, 16
"""Of 26 * 25 samples two are left for an epoch's last batch: of three workers, one has none."""


class LocalCluster:
    """Ray nodes of one core each, every one a process group of its own on this machine."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Take what is to be in the environment of all workers."""
        self._folder = folder
        # At once, so that they differ: one that was given back may be given again.
        self._port, self._client_port = free_ports(2)
        self._nodes: list[subprocess.Popen[bytes]] = []
        # A token of its own: without one, Ray takes the one in the home folder.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        scripts = os.pathsep.join((str(RAY.parent), os.environ.get("PATH", "")))
        self.environment = {
            **environment,
            **token,
            "PATH": scripts,
            "RAY_ADDRESS": f"127.0.0.1:{self._port}",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def add(self) -> int:
        """Start a node, the first as the head; gives its number."""
        command = [str(RAY), "start", "--block", "--disable-usage-stats", "--num-cpus=1"]
        command += [f"--object-store-memory={100 * 2**20}", "--node-ip-address=127.0.0.1"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]
        if self._nodes:
            command += [f"--address=127.0.0.1:{self._port}"]
        else:
            command += ["--head", f"--port={self._port}", "--include-dashboard=false"]
            command += [f"--ray-client-server-port={self._client_port}"]
            command += [f"--temp-dir={self._folder}"]
        environment = {**os.environ, **self.environment}
        del environment["RAY_ADDRESS"]
        number = len(self._nodes)
        log = self._folder / f"node-{number}.log"
        with log.open("wb") as output:
            node = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        self._nodes.append(node)

        def started() -> bool:
            assert node.poll() is None, log.read_text()
            return "Ray runtime started" in log.read_text()

        # One after the other: nodes of one machine that start at once get in each other's way.
        wait_until(started)
        return number

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
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return Trace(tmp_path / "trace")


@pytest.fixture
def cluster(trace: Trace) -> Iterator[LocalCluster]:
    # Sockets lie in this folder: pytest's own is too deep for their names.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with ExitStack() as stack:
        cluster = LocalCluster(folder, {"REDACTION_TRAINING_TRACE": str(trace.folder)})
        stack.callback(cluster.close)
        yield cluster


def wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_training_goes_on_while_nodes_come_and_go(
    cluster: LocalCluster, trace: Trace, tmp_path: Path
) -> None:
    data, output = f"{tmp_path}/set", f"{tmp_path}/out"
    splits = ["train"] * TRAIN + ["val"] * VAL
    write_data_set(data, smooth_images(TRAIN + VAL, SIDE), splits=splits)
    cluster.add()

    command = Command.start(
        tmp_path / "log",
        *("--data", data, "--output", output, "--network", "enhancer"),
        *("--architecture", "width=8", "blocks=1", "--redact", "pixelate:4"),
        *("--crop", str(SIDE), "--precision", "float32"),
        *("--batch-size", str(BATCH_SIZE), "--epochs", str(EPOCHS), "--repeats", str(REPEATS)),
        *("--workers", "1:3", "--cpus-per-worker", "1", "--checkpoint-every-s", "1"),
        verb="train",
        environment=cluster.environment,
    )

    def workers() -> int:
        assert command.process.poll() is None, (command.log / "stderr").read_text()
        return trace.workers(BATCH_SIZE)

    wait_until(lambda: workers() == 1)
    joined = [cluster.add(), cluster.add()]
    wait_until(lambda: workers() == 3)
    cluster.kill(joined[0])
    wait_until(lambda: workers() == 2)
    ended = command.wait()

    assert ended.code == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    steps = -(-TRAIN * REPEATS // BATCH_SIZE)
    assert ended.result["steps"] == EPOCHS * steps
    assert load_model(f"{output}/model").name == "enhancer"
    seen = trace.last_seen(BATCH_SIZE)
    assert sorted(seen) == list(range(EPOCHS * steps))
    for epoch in range(EPOCHS):
        keys = [key for step in range(epoch * steps, (epoch + 1) * steps) for key in seen[step]]
        # A key has the image, the epoch, and how often the epoch has had it before.
        assert len(keys) == len(set(keys)) == TRAIN * REPEATS
        assert {key.split()[1] for key in keys} == {str(epoch)}
    assert len(seen[steps - 1]) == TRAIN * REPEATS % BATCH_SIZE == 2
