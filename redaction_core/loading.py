"""From an input's key to its pixels, and to the original, mask or blocks that belong to it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from redaction_core.companions import Companions
from redaction_core.errors import Failure, InputError, ObjectMissingError, UsageError
from redaction_core.images import (
    DEFAULT_MAX_PIXELS,
    Format,
    Pixels,
    decode,
    decode_mask,
    pixel_count,
)
from redaction_core.inference import is_out_of_memory
from redaction_core.models.enhancer import MAX_BLOCK, SIGMAS
from redaction_core.mosaic import Mosaic, find_mosaic
from redaction_core.redaction import Blur, Pixelate, Redaction
from redaction_core.schemas import METRICS
from redaction_core.stages import stage

if TYPE_CHECKING:
    from redaction_core.data_set_images import Inputs
    from redaction_core.gate import Gate
    from redaction_core.plan import PlannedInput
    from redaction_core.storage import Store


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to do with every input."""

    inputs: Inputs
    outputs: Store | None
    """None: results are measured, and not kept."""
    network: str = "enhancer"
    model: str | None = None
    """Location of the model directory; None: what is shipped for the network."""
    originals: Store | None = None
    masks: Store | None = None
    redaction: Redaction | None = None
    """Inputs are clean: redact them, and measure against them."""
    block_size: int | None = None
    """Pixels a side of the blocks in the inputs; None: found in each image."""
    nearest: bool = False
    """Blocks hold one pixel's value, not the mean."""
    blur_sigma: float | None = None
    """Standard deviation in pixels of the Gaussian that blurred the inputs; None: no blur did."""
    self_ensemble: bool = False
    """Holes are filled in the mirror image too."""
    project: bool = False
    """Results are made to explain their pixelated inputs, if the network does not do so itself."""
    uncertainty: bool = False
    """A map of intervals is kept beside every result."""
    format: Format = "png"
    description: str = ""
    """What the metadata of every result says of it, ASCII."""
    seed: int = 0
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_bytes: int = 2**29

    @property
    def blur(self) -> Blur | None:
        """The blur to undo, where it is blur: made here, or there already."""
        if isinstance(self.redaction, Blur):
            return self.redaction
        return None if self.blur_sigma is None else Blur(sigma=self.blur_sigma)


@dataclass(kw_only=True)
class Work:
    """One input on its way; `row` fills up."""

    item: PlannedInput
    row: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(METRICS.names))
    """A row of `schemas.METRICS`."""
    pixels: Pixels = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    """What the network gets; the clean image until it is redacted."""
    original: Pixels | None = None
    hidden: npt.NDArray[np.bool_] | None = None
    """bool, HxW."""
    how: Pixelate | Blur | None = None
    mosaic: Mosaic | None = None
    """Where the blocks lie, of an input that is pixelated already."""
    notes: list[str] = field(default_factory=list)
    error: InputError | None = None
    cost: int = 0
    """What it takes of the gate."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.row["key"] = self.item.key

    @property
    def counted(self) -> npt.NDArray[np.bool_] | None:
        """What is restored, bool HxW: what is hidden, or pixelated; None: all of it."""
        return self.mosaic.region if self.mosaic else self.hidden

    def failed(self, error: InputError) -> dict[str, Any]:
        """Give the row of an input that has no result."""
        known = ("key", "network", "model_sha256", "input_sha256", "width", "height")
        row = dict.fromkeys(METRICS.names) | {name: self.row[name] for name in known}
        return row | {
            "status": "failed",
            "failure": str(error.failure),
            "detail": error.detail,
            "seconds": self.seconds,
        }


def refuse_beyond_reach(flag: str, redaction: Redaction) -> None:
    """Raise UsageError for blocks or blurs that no network here undoes."""
    if isinstance(redaction, Pixelate) and not 2 <= redaction.block <= MAX_BLOCK:  # noqa: PLR2004 - a pixel is no block
        raise UsageError(f"{flag}{redaction}: blocks have 2 to {MAX_BLOCK} pixels a side")
    least, most = SIGMAS
    # Written so that "nan" does not pass.
    if isinstance(redaction, Blur) and not least <= redaction.sigma <= most:
        raise UsageError(f"{flag}{redaction}: blur has a sigma of {least:g} to {most:g} pixels")


def load(task: Task, item: PlannedInput, gate: Gate, turn: int) -> Work:
    """Read and decode one input; what is wrong with it stands in the work's `error`.

    Raises StorageError when storage fails.
    """
    started = time.perf_counter()
    work = Work(item=item)
    entered = False
    try:
        with stage("read"):
            data = _read(task, work)
        values = 3 * pixel_count(data, max_pixels=task.max_pixels)
        work.cost, entered = gate.enter(turn, values), True
        with stage("decode"):
            _decode(task, data, work)
    except InputError as error:
        work.error = error
    except (MemoryError, cv2.error) as error:
        if not is_out_of_memory(error):
            raise
        work.error = InputError(Failure.OUT_OF_MEMORY, "no memory to find its blocks")
    finally:
        if not entered:
            gate.enter(turn, 0)
    work.seconds = time.perf_counter() - started
    return work


def check_hidden(hidden: npt.NDArray[np.bool_]) -> None:
    """Raise InputError for a mask (bool, HxW) that hides nothing or everything."""
    if not hidden.any():
        raise InputError(Failure.MASK_EMPTY, "nothing is hidden: no pixel of the mask is set")
    if hidden.all():
        raise InputError(Failure.MASK_FULL, "everything is hidden: nothing to restore it from")


def _read(task: Task, work: Work) -> bytes:
    item = work.item
    if item.failure is not None:
        raise InputError(item.failure, item.detail or "")
    try:
        blob = task.inputs.read(item.key, max_bytes=task.max_bytes)
    except ObjectMissingError as error:
        raise InputError(Failure.NOT_FOUND, "gone since the run was planned") from error
    if blob.version != item.version:
        raise InputError(Failure.INPUT_CHANGED, "changed since the run was planned")
    work.row["input_sha256"] = hashlib.sha256(blob.data).hexdigest()
    return blob.data


def _decode(task: Task, data: bytes, work: Work) -> None:
    decoded = decode(data, max_pixels=task.max_pixels)
    work.pixels = decoded.pixels
    work.notes += decoded.notes
    height, width = work.pixels.shape[:2]
    work.row |= {"width": width, "height": height}
    if task.originals is not None:
        work.original = _original(task, task.originals, work)
    if task.masks is not None:
        masks = Companions(
            store=task.masks,
            decode=lambda mask: decode_mask(mask, max_pixels=task.max_pixels),
            missing=Failure.MASK_MISSING,
            unreadable=Failure.MASK_UNREADABLE,
            max_bytes=task.max_bytes,
        )
        work.hidden = masks.read(work.item.key)
        _check_size(work.hidden.shape, work, Failure.MASK_SIZE, "mask")
        check_hidden(work.hidden)
    elif isinstance(task.redaction, Pixelate):
        work.how = task.redaction
    elif task.blur is not None:
        work.how = task.blur
    elif task.redaction is None:
        work.mosaic = _blocks(task, work)
        work.how = Pixelate(block=work.mosaic.block, nearest=task.nearest)


def _original(task: Task, originals: Store, work: Work) -> Pixels:
    companions = Companions(
        store=originals,
        decode=lambda data: decode(data, max_pixels=task.max_pixels).pixels,
        missing=Failure.ORIGINAL_MISSING,
        unreadable=Failure.ORIGINAL_UNREADABLE,
        max_bytes=task.max_bytes,
    )
    original = companions.read(work.item.key)
    _check_size(original.shape[:2], work, Failure.ORIGINAL_SIZE, "original")
    if original.ndim > work.pixels.ndim:
        work.notes.append("colour original compared in gray")
        return np.asarray(cv2.cvtColor(original, cv2.COLOR_RGB2GRAY), np.uint8)
    if original.ndim < work.pixels.ndim:
        return np.repeat(original[..., None], 3, axis=2)
    return original


def _check_size(shape: tuple[int, ...], work: Work, failure: Failure, what: str) -> None:
    here = work.pixels.shape
    if shape != here[:2]:
        detail = f"the {what} is {shape[1]}x{shape[0]}, the image {here[1]}x{here[0]}"
        raise InputError(failure, detail)


def _blocks(task: Task, work: Work) -> Mosaic:
    if task.block_size is not None:
        told = Mosaic(block=task.block_size)
        # JPEG, for example, leaves no exact blocks.
        exact = np.array_equal(np.rint(told.means(work.pixels)), work.pixels)
        return replace(told, exact=exact)
    found = find_mosaic(work.pixels)
    if found is None:
        detail = "no grid of blocks was found: name --block-size if there is one"
        raise InputError(Failure.NOT_PIXELATED, detail)
    if found.block > MAX_BLOCK:
        detail = f"its blocks of {found.block} pixels are larger than {MAX_BLOCK}"
        raise InputError(Failure.UNSUPPORTED, detail)
    work.row |= {
        "block_top": found.top,
        "block_left": found.left,
        "block_confidence": found.confidence,
    }
    if found.region is not None:
        work.notes.append("pixelated in part: the rest is as it was")
    return found
