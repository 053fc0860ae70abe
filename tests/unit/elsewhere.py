"""Train and restore on a device that is not the CPU, and print what came of it as JSON.

`python -m tests.unit.elsewhere`; a process of its own, as `tests.other_device` says.
"""

import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from redaction_core.checkpoints import Model, load_model
from redaction_core.inference import Restoration, Restorer
from redaction_core.models import FILLS_HOLES
from redaction_core.redaction import parse, redact
from redaction_core.training.group import Group
from tests.other_device import other_device
from tests.unit.networks import holes, noise, small
from tests.unit.training_group import history_of, run, session_of
from tests.unit.training_sets import smooth_images, write_data_set

NETWORKS = ("enhancer", "redacto", "enhancer-baseline", "redacto-baseline")
LOSSES = {"enhancer": "laplacian", "redacto": "balanced"}
REDACTIONS = {
    "enhancer": ("pixelate:4", "pixelate:2-3:nearest", "blur:1-2"),
    "redacto": ("box:0.2@random", "freeform:0.2@random", "pixels:0.5@random"),
}
ALL = (
    *("pixelate:3", "pixelate:4:nearest", "blur:1.7"),
    *("box:3x5@center", "freeform:0.3@random", "pixels:0.5@random"),
)


class Elsewhere:
    """Trainings and results on both devices."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._device, self._context = other_device()
        for colour in (False, True):
            images = smooth_images(16, 16, colour=colour)
            write_data_set(str(folder / f"data-{colour}"), images)

    def train(self, network: str, name: str, *devices: str) -> list[float]:
        """Train an epoch of three steps on these devices, one after the other; gives its losses."""
        output = self._folder / network / name
        changes: dict[str, Any] = {"checkpoint_every_s": 0.0, "epochs": 1, "batch_size": 4}
        if network in LOSSES:
            changes |= {"loss": LOSSES[network], "redactions": REDACTIONS[network]}
        else:
            changes |= {"crop": 8}
        data = str(self._folder / f"data-{network in FILLS_HOLES}")
        session = session_of(data, output, network, **changes)
        for place, device in enumerate(devices):
            ends = place == len(devices) - 1
            with self._context if device == "other" else nullcontext():
                group = Group(device=self._torch_device(device))
                run(session, None if ends else 2, 1, group)
        (epoch,) = history_of(output).epochs
        return [epoch.train_loss or 0.0, epoch.val["loss"]]

    def restore(self, network: str, how: str, *shape: int, **flags: bool) -> bool:
        """Restore images; says whether they and their scales are those of the CPU but for rounding.

        Not to the bit: where memory is laid out otherwise, sums come in another order.
        """
        found: list[list[Restoration]] = []
        images = list(noise(2, *shape))
        for device in ("cpu", "other"):
            model = Model(name=network, network=small(network), sha256="", config={})
            with self._context if device == "other" else nullcontext():
                restorer = Restorer(
                    model, device=self._torch_device(device), precision=torch.float32, **flags
                )
                if network in FILLS_HOLES:
                    found.append(restorer.fill(images, list(holes(2, *shape[-2:]))))
                else:
                    found.append(restorer.enhance(images, parse(how)))  # type: ignore[arg-type]
        return all(
            torch.allclose(one.image.float(), other.image.float(), rtol=0, atol=1)
            and (one.scale is None or torch.allclose(one.scale, other.scale, rtol=0.01))
            for one, other in zip(*found, strict=True)
        )

    def redact(self, how: str) -> bool:
        """Redact images; says whether they and what is hidden are those of the CPU."""
        images, keys = noise(3, 3, 19, 23), ["a", "b", "c"]
        here = redact(parse(how), images, keys)
        with self._context:
            there = redact(parse(how), images.to(self._device), keys)
            same = torch.equal(here.images_u8, there.images_u8.cpu())
            if here.hidden is None or there.hidden is None:
                return same and here.hidden is there.hidden
            return same and torch.equal(here.hidden, there.hidden.cpu())

    def model(self, network: str, name: str) -> str:
        """Load a model that was trained; gives its name."""
        return load_model(str(self._folder / network / name / "model")).name

    def mixed(self) -> str:
        """Say what becomes of tensors of two devices."""
        with self._context:
            try:
                torch.ones(2).to(self._device) + torch.ones(2)
            except RuntimeError as error:
                return str(error)
        return "nothing"

    def _torch_device(self, name: str) -> torch.device:
        return self._device if name == "other" else torch.device("cpu")


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        on = Elsewhere(Path(folder))
        # First, so that what is kept of gradients knows the device.
        trained = {
            network: {
                "cpu": on.train(network, "cpu", "cpu"),
                "other": on.train(network, "other", "other"),
            }
            for network in NETWORKS
        }
        for name in ("other cpu", "cpu other"):
            trained["enhancer"][name] = on.train("enhancer", name, *name.split())
        restored = {
            f"{network} {how} {shape} {flags}": on.restore(network, how, *shape, **flags)
            for network, how, shape, flags in (
                ("enhancer", "pixelate:4", (1, 19, 21), {}),
                ("enhancer", "pixelate:4:nearest", (3, 16, 24), {"project": True}),
                ("enhancer", "blur:1.5", (3, 17, 16), {}),
                ("enhancer", "pixelate:8", (1, 24, 1160), {}),
                ("enhancer-baseline", "pixelate:4", (3, 9, 16), {"project": True}),
                ("redacto", "", (1, 20, 23), {"self_ensemble": True}),
                ("redacto", "", (3, 24, 300), {}),
                ("redacto-baseline", "", (3, 9, 11), {}),
            )
        }
        told = {
            "trained": trained,
            "restored": restored,
            "redacted": {how: on.redact(how) for how in ALL},
            "models": {network: on.model(network, "other") for network in NETWORKS},
            "mixed": on.mixed(),
        }
        print(json.dumps(told))


if __name__ == "__main__":
    main()
