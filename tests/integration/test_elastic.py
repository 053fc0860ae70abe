"""`jobs.train --workers MIN:MAX` on a real cluster, while nodes join it and one of them dies."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command
from tests.faults.traces import Trace
from tests.local_cluster import LocalCluster, local_cluster, wait_until
from tests.unit.training_sets import smooth_images, write_data_set

LIMIT_S = 240
BATCH_SIZE = 12
"""A whole batch falls into equal shares for 1, 2 and 3 workers: shares tell how many there were."""
TRAIN, VAL, SIDE = 26, 8, 128
REPEATS, EPOCHS = 25, 1000  # more than anybody waits for
"""Of 26 * 25 samples two are left for an epoch's last batch: of three workers, one has none."""


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return Trace(tmp_path / "trace")


@pytest.fixture
def cluster(trace: Trace) -> Iterator[LocalCluster]:
    with local_cluster({"REDACTION_TRAINING_TRACE": str(trace.folder)}) as cluster:
        yield cluster


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

    wait_until(lambda: workers() == 1, LIMIT_S)
    joined = [cluster.add(), cluster.add()]
    wait_until(lambda: workers() == 3, LIMIT_S)
    cluster.kill(joined[0])
    wait_until(lambda: workers() == 2, LIMIT_S)
    steps = -(-TRAIN * REPEATS // BATCH_SIZE)
    epochs = trace.reached // steps + 1
    wait_until(lambda: trace.reached > epochs * steps, LIMIT_S)
    command.process.send_signal(signal.SIGINT)
    ended = command.wait()

    assert ended.code == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    seen = trace.last_seen(BATCH_SIZE)
    for epoch in range(epochs):
        keys = [key for step in range(epoch * steps, (epoch + 1) * steps) for key in seen[step]]
        # A key has the image, the epoch, and how often the epoch has had it before.
        assert len(keys) == len(set(keys)) == TRAIN * REPEATS
        assert {key.split()[1] for key in keys} == {str(epoch)}
    assert len(seen[steps - 1]) == TRAIN * REPEATS % BATCH_SIZE == 2
