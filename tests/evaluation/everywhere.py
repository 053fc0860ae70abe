"""Train every network on disk, in a bucket and over two workers, and compare what comes of it.

    python -m tests.evaluation.everywhere

Real commands on small data sets that this makes, the bucket on a SeaweedFS of its own. Of each
network: the loss falls; disk and bucket give the same weights, bit by bit; two workers see the
samples of one, step by step, and their losses differ by no more than rounding makes of them; the
model loads in `jobs.reconstruct`. Takes some ten minutes. Exits with 1 where anything is amiss.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.images import encode
from redaction_core.models import BUILDERS, FILLS_HOLES
from redaction_core.storage import Store, open_store
from tests.command import run
from tests.evaluation.independent import Verdicts
from tests.faults.traces import Trace
from tests.unit.training_sets import smooth_images, write_data_set

IMAGES, SIDE, BATCH_SIZE, EPOCHS = 64, 32, 12, 6
TOLERANCE = 0.01
"""Of the training loss of any epoch, two workers beside one: sums of other orders round apart."""
FLAGS = (
    *("--crop", "32", "--batch-size", str(BATCH_SIZE), "--epochs", str(EPOCHS)),
    *("--repeats", "4", "--precision", "float32", "--cpus-per-worker", "1"),
)
SMALL = {
    "enhancer": ("--architecture", "width=16", "blocks=2"),
    "redacto": ("--architecture", "width=16", "blocks=2", "coarse_width=16", "coarse_blocks=2"),
}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training left."""

    output: str
    trace: Trace

    @property
    def store(self) -> Store:
        """Give the output."""
        return open_store(self.output)

    @property
    def weights(self) -> bytes:
        """Give the file of the model."""
        return self.store.read("model/model.safetensors").data

    @property
    def losses(self) -> list[float]:
        """Give the training loss of each epoch."""
        history = json.loads(self.store.read("history.json").data)
        return [epoch["train_loss"] for epoch in history]

    @property
    def order(self) -> dict[int, list[str]]:
        """Give the samples of each step, sorted: workers share them out."""
        return {step: sorted(keys) for step, keys in self.trace.last_seen(BATCH_SIZE).items()}


def train(network: str, data: str, output: str, log: Path, workers: int = 1) -> Trained:
    """Run the real command."""
    words = ("--network", network, "--data", data, "--output", output, *FLAGS)
    more = (*SMALL.get(network, ()), "--workers", str(workers))
    print("$ python -m jobs.train", *words, *more, flush=True)
    trace = Trace(log / "trace")
    ended = run(
        log,
        *words,
        *more,
        verb="train",
        environment={"REDACTION_TRAINING_TRACE": str(trace.folder)},
    )
    if ended.code:
        sys.exit(f"ended with {ended.code}: {ended.stderr}")
    return Trained(output=output, trace=trace)


def compare(network: str, folder: Path, bucket: str, verdicts: Verdicts) -> None:
    """Train one network in all three ways."""
    kind = "colour" if network in FILLS_HOLES else "gray"
    logs = folder / "logs" / network
    disk = train(network, f"{folder}/{kind}", f"{folder}/{network}", logs / "disk")
    s3 = train(network, f"{bucket}/{kind}", f"{bucket}/{network}", logs / "s3")
    two = train(network, f"{folder}/{kind}", f"{folder}/{network}-2", logs / "two", workers=2)

    first, last = disk.losses[0], disk.losses[-1]
    verdicts.add(f"{network}: the loss falls from {first:.4g} to {last:.4g}", last < first)
    verdicts.add(f"{network}: disk and bucket give the same weights", disk.weights == s3.weights)
    verdicts.add(f"{network}: two workers see what one sees, step by step", two.order == disk.order)
    apart = max(
        abs(ours - theirs) / abs(theirs)
        for ours, theirs in zip(two.losses, disk.losses, strict=True)
    )
    text = f"{network}: losses of two workers are {apart:.2g} off at most, {TOLERANCE} allowed"
    verdicts.add(text, apart <= TOLERANCE)

    redaction = "box:4x4@center" if network in FILLS_HOLES else "pixelate:4:nearest"
    images = open_store(f"{folder}/images-{kind}")
    for number, pixels in enumerate(smooth_images(3, SIDE, colour=kind == "colour")):
        images.put(f"{number}.png", encode(pixels, "png"))
    restored = run(
        logs / "restored",
        *("--input", images.location, "--output", f"{folder}/restored-{network}"),
        *("--redact", redaction, "--network", network, "--model", f"{bucket}/{network}/model"),
    )
    count = restored.result["ok"] if restored.code == 0 else restored.stderr
    verdicts.add(f"{network}: jobs.reconstruct restores with it: {count}", restored.code == 0)


def main() -> int:
    """Give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", choices=sorted(BUILDERS), default=list(BUILDERS))
    networks = parser.parse_args().networks
    verdicts = Verdicts()
    with (
        tempfile.TemporaryDirectory(prefix="everywhere-") as name,
        EmbeddedS3(Path(name, "server"), ["trainings"]) as server,
    ):
        os.environ.update(server.environment)
        for kind in ("gray", "colour"):
            location = f"{name}/{kind}"
            write_data_set(location, smooth_images(IMAGES, SIDE, colour=kind == "colour"))
            source, copy = open_store(location), open_store(f"s3://trainings/{kind}")
            for entry in source.list():
                copy.put(entry.key, source.read(entry.key).data)
        for network in networks:
            compare(network, Path(name), "s3://trainings", verdicts)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
