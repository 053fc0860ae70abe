"""What `tests.gpu_check` asks of networks, redactions and trainings in its own process.

Everything is compared with the CPU's float32, on the CPU as well: there one by one against all at
once, so that the comparison itself is seen to work.
"""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
import skimage.data
import torch
from torch import Tensor

from redaction_core.checkpoints import Model, load_model, shipped
from redaction_core.images import encode
from redaction_core.inference import Restorer, planes_of
from redaction_core.loading import Task
from redaction_core.models import BUILDERS, FILLS_HOLES
from redaction_core.plan import planned
from redaction_core.reconstruction import open_reconstruction
from redaction_core.redaction import Blur, Pixelate, parse, redact
from redaction_core.storage import open_store
from redaction_core.training.group import Group
from tests.unit.networks import small
from tests.unit.training_group import history_of, run, session_of
from tests.unit.training_sets import smooth_images, write_data_set

Device = Literal["cpu", "gpu"]
Precision = Literal["float32", "bfloat16"]

ON: Final[dict[Device, str]] = {"cpu": "the CPU", "gpu": "a GPU"}
REDACTIONS: Final = (
    *("pixelate:3", "pixelate:8", "pixelate:16", "pixelate:4:nearest", "blur:1", "blur:4.3"),
    *("box:0.1@random", "freeform:0.3@random", "pixels:0.5@random"),
)
_OFTEN: Final = 0.001
"""Share of 8-bit values that may round the other way."""
_MEAN_LEVELS: Final = 0.5
"""Mean difference that bfloat16 may make, in levels of 8 bits."""
_LOSS_OFF: Final[dict[Precision, float]] = {"float32": 0.01, "bfloat16": 0.05}
"""How far, as a share, the losses of a short training may be off."""
_ROOM_BYTES: Final = 128 * 2**20
"""On a GPU that is nearly full: small images fit, a tile of a large one does not."""


class NotMetError(Exception):
    """What was asked was not even measured."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a check has measured."""

    figure: str
    bar: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report."""

    name: str
    gpus: int
    """So many it takes."""
    run: Callable[[Path], Found]
    """Takes the folder that all of them share."""


def checks() -> Iterator[Check]:
    """Give all that is done in this process."""
    for device in ON:
        of = {"gpus": int(device == "gpu")}
        on = f"on {ON[device]}"
        yield Check(name=f"redact {on}", run=partial(_redacted, device), **of)
        for network in BUILDERS:
            for precision in _LOSS_OFF:
                run = partial(_forward, network, device, precision)
                yield Check(name=f"forward {network} {precision} {on}", run=run, **of)
        for network in BUILDERS:
            for precision in _LOSS_OFF:
                run = partial(_trained, network, device, precision)
                yield Check(name=f"training {network} {precision} {on}", run=run, **of)
    yield Check(name="a GPU without memory gives a row", gpus=1, run=_full)


def torch_device(device: Device) -> torch.device:
    """Give torch's own name."""
    return torch.device("cuda" if device == "gpu" else "cpu")


def levels_apart(pairs: list[tuple[Tensor, Tensor]], precision: Precision) -> Found:
    """Compare 8-bit images, those of the CPU's float32 first."""
    off = torch.cat([(one.float() - other.float()).abs().flatten() for one, other in pairs])
    largest, mean, share = int(off.max()), float(off.mean()), float((off > 0).float().mean())
    if precision == "float32":
        return Found(
            figure=f"{share:.3%} of values differ, by {largest} at most",
            bar=f"{_OFTEN:.1%}, by 1",
            passed=share <= _OFTEN and largest <= 1,
        )
    return Found(
        figure=f"{mean:.3f} levels of 8 bits off in the mean, {largest} at most",
        bar=f"{_MEAN_LEVELS:g} in the mean",
        passed=mean <= _MEAN_LEVELS,
    )


def losses_apart(
    losses: list[float], expected: list[float], precision: Precision = "float32"
) -> Found:
    """Compare the losses of a training with those of the CPU's float32."""
    off = max(abs(one / other - 1) for one, other in zip(losses, expected, strict=True))
    bar = _LOSS_OFF[precision]
    return Found(figure=f"losses {off:.4%} off", bar=f"{bar:.0%}", passed=off <= bar)


def _pictures(*, colour: bool) -> list[Tensor]:
    """Give pieces of photographs, uint8 (C, H, W): two of one size, one odd, and one of tiles."""
    image = skimage.data.astronaut() if colour else skimage.data.camera()
    long = np.concatenate([image, image, image], 1)
    places = (
        np.s_[64:160, 160:256],
        np.s_[0:96, 80:176],
        np.s_[60:127, 150:223],
        np.s_[80:96, :1100],
    )
    return [planes_of(np.ascontiguousarray(long[place])) for place in places]


def _redacted(device: Device, _: Path) -> Found:
    """Both pictures of one size at once, and each on the CPU."""
    values, off = 0, 0
    for text in REDACTIONS:
        images, keys = torch.stack(_pictures(colour=True)[:2]), ["a", "b"]
        together = redact(parse(text), images.to(torch_device(device)), keys)
        for place, key in enumerate(keys):
            alone = redact(parse(text), images[place : place + 1], [key])
            off += int((alone.images_u8[0] != together.images_u8[place].cpu()).sum())
            values += alone.images_u8.numel()
            if alone.hidden is not None and together.hidden is not None:
                off += int((alone.hidden[0] != together.hidden[place].cpu()).sum())
    figure = f"{off} of {values} values differ, {len(REDACTIONS)} redactions"
    return Found(figure=figure, bar="0", passed=off == 0)


def _forward(network: str, device: Device, precision: Precision, _: Path) -> Found:
    expected = _restored(network, "cpu", "float32", together=False)
    found = _restored(network, device, precision, together=True)
    return levels_apart(list(zip(expected, found, strict=True)), precision)


@lru_cache(maxsize=16)
def _restored(
    network: str, device: Device, precision: Precision, *, together: bool
) -> list[Tensor]:
    """Restore all pictures, gray and colour, by the shipped weights where there are any."""
    model = Model(name=network, network=small(network), sha256="", config={})
    if network != "enhancer-baseline":
        model = load_model(shipped(network))
    restorer = Restorer(model, device=torch_device(device), precision=getattr(torch, precision))
    ways = ("pixelate:4", "pixelate:4:nearest", "blur:2")
    if network in FILLS_HOLES:
        ways = ("box:0.1@random", "freeform:0.2@random")
    elif network == "enhancer-baseline":
        ways = ways[:1]
    found = []
    for text in ways:
        for colour in (False, True):
            first, second, *others = _pictures(colour=colour)
            if network == "enhancer-baseline":
                others = others[:1]  # the long one takes it ten seconds
            elif network in FILLS_HOLES:
                others[1] = others[1][..., :300]  # its own tiles are smaller
            batches = [[first, second]] if together else [[first], [second]]
            for batch in (*batches, *([each] for each in others)):
                found += _restore(restorer, text, batch)
    return found


def _restore(restorer: Restorer, text: str, images: list[Tensor]) -> list[Tensor]:
    redacted = redact(parse(text), torch.stack(images), ["a"] * len(images))
    if redacted.hidden is not None:
        results = restorer.fill(list(redacted.images_u8), list(redacted.hidden))
    else:
        how = parse(text)
        assert isinstance(how, Pixelate | Blur)
        results = restorer.enhance(list(redacted.images_u8), how)
    return [each.image for each in results]


def _trained(network: str, device: Device, precision: Precision, folder: Path) -> Found:
    """Train an epoch, with its validation, a checkpoint and the model."""
    expected = _losses(network, "cpu", "float32", folder)
    return losses_apart(_losses(network, device, precision, folder), expected, precision)


def _losses(network: str, device: Device, precision: Precision, folder: Path) -> list[float]:
    colour = network in FILLS_HOLES
    data = folder / f"tiny-{'rgb' if colour else 'gray'}"
    if not data.exists():
        write_data_set(str(data), smooth_images(24, 16, colour=colour))
    output = folder / f"{network}-{device}-{precision}"
    if not output.exists():
        # The published enhancer takes a second for a larger sample.
        crop = 8 if network == "enhancer-baseline" else 16
        session = session_of(str(data), output, network, epochs=1, precision=precision, crop=crop)
        run(session, group=Group(device=torch_device(device)))
    (epoch,) = history_of(output).epochs
    return [epoch.train_loss or 0.0, epoch.val["loss"]]


def _full(folder: Path) -> Found:
    """Restore a picture that does not fit on the GPU, between two that do."""
    store = open_store(str(folder / "sizes"))
    for name, side in (("a", 64), ("b", 1400), ("c", 72)):
        store.put(
            f"{name}.png",
            encode(skimage.data.camera()[:1, :1].repeat(side, 0).repeat(side, 1), "png"),
        )
    task = Task(inputs=store, outputs=None, redaction=Pixelate(block=2))
    work = open_reconstruction(True, task=task, precision="float32", threads=1)  # noqa: FBT003 - its one argument
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + _ROOM_BYTES) / total)
    try:
        rows = work.run(list(planned(store.list(), ".png"))).rows
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    ends = [row["failure"] or row["status"] for row in rows]
    bar = ["ok", "out_of_memory", "ok"]
    return Found(figure=", ".join(ends), bar=", ".join(bar), passed=ends == bar)
