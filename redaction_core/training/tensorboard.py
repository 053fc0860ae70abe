"""Event files for TensorBoard: written to a folder of this machine, and copied to storage."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redaction_core.training.history import figures_of_epoch

if TYPE_CHECKING:
    from redaction_core.training.history import Epoch

_ODD: Final = re.compile(r"[^\w./-]+")


class EventFiles:
    """The event file of one process; a run that is resumed goes on in another one beside it."""

    def __init__(self, *, first_step: int) -> None:
        """Start a file; what earlier ones say of `first_step` and later ones is not shown.

        Steps are counted from 1: a run resumed after 100 steps goes on with step 101. Raises
        OSError when the temporary folder is full or cannot be written; so do the other methods.
        """
        # It takes longer to import than most of what a training imports.
        from torch.utils.tensorboard import SummaryWriter

        self._folder = tempfile.TemporaryDirectory(prefix="redaction-events-")
        purge = first_step if first_step > 1 else None
        self._writer = SummaryWriter(self._folder.name, purge_step=purge)

    def step(self, step: int, *, loss: float, learning_rate: float, images_per_s: float) -> None:
        """Add figures of training, of the step and those since the last that was told."""
        self._add("train/loss", loss, step)
        self._add("train/learning_rate", learning_rate, step)
        self._add("train/images_per_s", images_per_s, step)

    def epoch(self, epoch: Epoch) -> None:
        """Add the figures of a validation."""
        for name, value in figures_of_epoch(epoch).items():
            self._add(name, value, epoch.step)

    def contents(self) -> dict[str, bytes]:
        """Give what was written so far: file name to bytes."""
        self._writer.flush()
        return {path.name: path.read_bytes() for path in sorted(Path(self._folder.name).iterdir())}

    def close(self) -> None:
        """End the file, and remove it from this machine."""
        self._writer.close()
        self._folder.cleanup()

    def _add(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(plain_name(name), value, step)


def plain_name(name: str) -> str:
    """Give a name of letters, digits and `_./-` alone, which every tracker takes."""
    return _ODD.sub("_", name)
