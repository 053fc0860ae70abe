"""Kill machines of a cluster again and again while a job runs: `... --verb ingest --every-s 20`."""

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import tyro

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.images import encode
from redaction_core.storage import open_store
from tests.command import Command, Ended, Output, run
from tests.local_cluster import LocalCluster, local_cluster
from tests.unit.training_sets import smooth_images, write_data_set

BUCKET = "machines"
NODES = 3
_SIDE = 448
_SHARD_SIZE = 40
_EPOCHS = 3
_NOISE = 0.15
"""Of a training's error: machines that come and go change the order of sums, and of few samples."""

Verb = Literal["ingest", "train", "reconstruct"]


@dataclass(frozen=True, kw_only=True)
class NodeKills:
    """Run a job on a head and three machines, killing one of them (SIGKILL) every few seconds.

    Another one joins each time. The output must be that of a run in peace, on this machine alone.
    """

    verb: Verb = "reconstruct"
    """What is disturbed."""
    images: int = 3000
    """Inputs; of train, samples of an epoch."""
    every_s: float = 20
    """Seconds from one kill to the next."""


def main(config: NodeKills) -> int:
    """Return 1 if anything differs."""
    with (
        tempfile.TemporaryDirectory(prefix="machines-") as folder,
        EmbeddedS3(Path(folder, "server"), [BUCKET]) as server,
    ):
        os.environ.update(server.environment)
        _write_inputs(config)
        started = time.monotonic()
        peace = run(Path(folder, "peace"), *_flags(config, "peace"), verb=config.verb)
        assert peace.code == 0, peace.stderr
        print(f"in peace: {time.monotonic() - started:.0f} s", flush=True)
        with local_cluster(server.environment) as cluster:
            for number in range(NODES + 1):
                cluster.add(cpus=min(1, number))
            started = time.monotonic()
            ended, kills = _disturb(config, cluster, Path(folder, "log"))
        print(f"with {kills} machines killed: {time.monotonic() - started:.0f} s", flush=True)
        print(*ended.stderr.splitlines()[-40:], sep="\n")
        verdicts = {"ends well": ended.code == 0, "machines were killed": kills > 0}
        if ended.code == 0:
            same = _same_training if config.verb == "train" else _same_output
            verdicts |= dict(same(config, Path(folder)))
    for name, holds in verdicts.items():
        print("PASS" if holds else "FAIL", name)
    return 0 if all(verdicts.values()) else 1


def _write_inputs(config: NodeKills) -> None:
    if config.verb == "train":
        write_data_set(_place("in"), smooth_images(60, 128), splits=["train"] * 48 + ["val"] * 12)
        return
    store, rng = open_store(_place("in")), np.random.default_rng(0)
    base = smooth_images(50, _SIDE, colour=True)
    for number in range(config.images):
        image = np.roll(base[number % len(base)], int(rng.integers(1, _SIDE)), axis=1)
        image[0, 0] = number % 256, number // 256 % 256, 0  # no two are alike
        data = encode(image[:128, :128].copy() if config.verb == "reconstruct" else image, "jpeg")
        store.put(f"{number:06}.jpg", data if number % 97 else b"not an image")


def _flags(config: NodeKills, output: str) -> list[str]:
    shards = ("--shard-size", str(_SHARD_SIZE), "--output", _place(output))
    match config.verb:
        case "ingest":
            return ["--images", _place("in"), *shards, "--color", "rgb", "--size", "384"]
        case "reconstruct":
            return ["--input", _place("in"), *shards, "--redact", "pixelate:8"]
        case "train":
            flags = f"--network enhancer --data {_place('in')} --output {_place(output)} "
            flags += "--architecture width=8 blocks=1 --redact pixelate:4 --crop 96 --workers 1:2 "
            flags += f"--epochs {_EPOCHS} --repeats {config.images // 48} --batch-size 12 "
            flags += "--cpus-per-worker 1 --checkpoint-every-s 1 --precision float32 --resume"
            return flags.split()


def _disturb(config: NodeKills, cluster: LocalCluster, log: Path) -> tuple[Ended, int]:
    environment = cluster.environment
    flags = _flags(config, "disturbed")
    command = Command.start(log, *flags, verb=config.verb, environment=environment)
    kills, next_s = 0, time.monotonic() + config.every_s
    while command.process.poll() is None:
        time.sleep(0.1)
        if time.monotonic() >= next_s:
            next_s += config.every_s
            kills += 1
            # The oldest but for the head, while the two younger ones work.
            cluster.kill(kills)
            cluster.add(cpus=1)
            print(f"machine {kills} is dead, another joined", flush=True)
    return command.wait(), kills


def _same_output(config: NodeKills, folder: Path) -> Iterator[tuple[str, bool]]:
    if config.verb == "reconstruct":
        mine, theirs = (Output.read(_place(each)) for each in ("disturbed", "peace"))
        yield f"the same {len(theirs.images)} images", mine.images == theirs.images
        yield f"the same {len(theirs.rows)} rows", mine.rows == theirs.rows
        yield "the same names", mine.names == theirs.names
        verified = run(folder / "verify", "--output", _place("disturbed"), verb="verify")
        yield "jobs.verify finds nothing", verified.code == 0
        return
    for table in ("images", "failures"):
        mine, theirs = (_rows(each, table) for each in ("disturbed", "peace"))
        yield f"the same {len(theirs)} rows of {table}", mine == theirs
    counts = [len(_rows("disturbed", table)) for table in ("images", "failures")]
    yield f"inputs = images + failures: {counts}", sum(counts) == config.images


def _rows(output: str, table: str) -> dict[str, Mapping[str, Any]]:
    store, found = open_store(_place(output)), []
    for entry in store.list(f"{table}/"):
        found += pq.read_table(io.BytesIO(store.read(entry.key).data)).to_pylist()
    rows = {row["image_id"]: {**row, "seconds": None} for row in found}
    assert len(rows) == len(found)
    return rows


def _same_training(_: NodeKills, __: Path) -> Iterator[tuple[str, bool]]:
    stores = [open_store(_place(each)) for each in ("disturbed", "peace")]
    mine, theirs = (json.loads(each.read("history.json").data) for each in stores)
    steps = [epoch["step"] for epoch in theirs]
    yield f"the same steps: {steps}", [epoch["step"] for epoch in mine] == steps
    losses = [each[-1]["val"]["loss"] for each in (mine, theirs)]
    text = f"validation loss {losses[0]:.5f}, in peace {losses[1]:.5f}"
    yield text, abs(losses[0] - losses[1]) <= _NOISE * losses[1]


def _place(name: str) -> str:
    return f"s3://{BUCKET}/{name}"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(NodeKills)))
