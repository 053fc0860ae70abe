"""Small trainings by the real command, and the images that they are measured on."""

from __future__ import annotations

import hashlib
import io
import json
import math
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image

from redaction_core.checkpoints import load_model
from redaction_core.inference import Restorer, best_precision
from tests.evaluation.independent import Pixels
from tests.evaluation.research_data import cifar_files, held_out_faces, some

ROOT = Path(__file__).resolve().parents[2]
FACE_SIDE, FACES = 224, 120
"""Pixels a side of the faces that are measured, and how many there are."""
LEAST_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training."""

    output: Path

    @property
    def crops(self) -> int:
        """Count what was learnt from."""
        run = json.loads((self.output / "run.json").read_text())
        images = zip(run["data"], run["recipe"]["sources"], strict=True)
        per_epoch = sum(data["train"] * source["repeats"] for data, source in images)
        return int(per_epoch * len(self._epochs))

    @property
    def crops_per_s(self) -> float:
        """Speed of training: the median over epochs, validation left out."""
        return statistics.median(epoch["images_per_s"] for epoch in self._epochs)

    @property
    def minutes(self) -> float:
        """Spent on training alone."""
        return self.crops / self.crops_per_s / 60

    @property
    def _epochs(self) -> list[dict[str, float]]:
        epochs: list[dict[str, float]] = json.loads((self.output / "history.json").read_text())
        return epochs

    def restorer(self) -> Restorer:
        """Load the model."""
        device = torch.device("cpu")
        model = load_model(str(self.output / "model"))
        return Restorer(model, device=device, precision=best_precision(device))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where everything is, and the share of the images that is used."""

    sets: Path
    data: Path
    work: Path
    scale: float

    def train(self, name: str, network: str, data: str, *flags: object) -> Run:
        """Run the real command, or go on with it."""
        output = self.work / name
        command = ["--network", network, "--data", self._set(data), "--output", output, *flags]
        command += ["--workers", 1, "--cpus-per-worker", 1, "--resume"]
        words = ["-m", "jobs.train", *map(str, command)]
        print("$ python", *words, flush=True)
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        return Run(output=output)

    def _set(self, name: str) -> Path:
        """Give a data set; for a quick look a copy of a share of each of its parts."""
        whole, part_of = self.sets / name, self.work / "sets" / name
        if self.scale == 1:
            return whole
        if (part_of / "_SUCCESS").exists():
            return part_of
        (part_of / "images").mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(sorted((whole / "images").glob("*.parquet"))):
            table = pq.read_table(path)
            table = table.filter(pc.not_equal(table["split"], "test"))
            stream = io.BytesIO()
            pq.write_table(table.slice(0, math.ceil(self.scale * len(table))), stream)
            # Pixels are kept by the names of parts, which say what is in them.
            digest = hashlib.sha256(stream.getvalue()).hexdigest()[:16]
            part = part_of / "images" / f"part-{number:06d}-{digest}.parquet"
            part.write_bytes(stream.getvalue())
        (part_of / "dataset.json").write_bytes((whole / "dataset.json").read_bytes())
        (part_of / "_SUCCESS").touch()
        return part_of

    def faces(self) -> list[Pixels]:
        """Give some of the faces that nothing is learnt from, (224, 224) each."""
        chosen = some(held_out_faces(self.data), self._count(FACES))
        return [
            np.asarray(face.resize((FACE_SIDE, FACE_SIDE), Image.Resampling.BICUBIC))
            for _, face in chosen
        ]

    def small_images(self) -> Pixels:
        """Give test images of CIFAR-10, (N, 32, 32, 3)."""
        files = list(cifar_files(self.data, "test").values())
        files = some(files, self._count(len(files)))
        return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])

    def _count(self, whole: int) -> int:
        return max(LEAST_IMAGES, round(self.scale * whole))
