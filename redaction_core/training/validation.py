"""How good a network is on images it does not learn from, redaction by redaction.

Figures are those that reconstruct gives for the same images: means over the images that have them.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from redaction_core.checkpoints import Model
from redaction_core.comparison import compare
from redaction_core.inference import Restorer, pixels_of
from redaction_core.models import BUILDERS
from redaction_core.redaction import HIDDEN_U8, Hiding, Redaction, redact
from redaction_core.training.objectives import losses_of
from redaction_core.training.sheets import Restored
from redaction_core.uncertainty import Ratios, calibrate, errors_and_scales

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redaction_core.training.batches import Batch
    from redaction_core.training.recipe import Learn, Loss, Precision

MEASURES: Final = (
    *("mae", "mse", "psnr", "ssim"),
    *("baseline_mae", "baseline_mse", "bicubic_mae", "recovered"),
)
"""Figures of one image, as in `schemas.METRICS`; over the hidden pixels where there are any."""
_SUMMED: Final = ("loss", *MEASURES)
_SHOWN: Final = 12
"""Rows of a sheet, but for more redactions than that."""


class Sums:
    """Sums of figures by redaction, and some of the restored images behind them."""

    def __init__(self, redactions: Iterable[str]) -> None:
        """Start from nothing, for the text forms of the redactions that will be seen."""
        self.redactions = tuple(dict.fromkeys(redactions))
        """What the rows of `values` are of: alike on all workers of a run."""
        self.values = torch.zeros(
            len(self.redactions), len(_SUMMED), 2, dtype=torch.float64, device="cpu"
        )
        """Sum and number of each figure, float64: those of several workers may be added."""
        self.ratios = torch.zeros(len(self.redactions), Ratios.size, dtype=torch.float64)
        """How far off estimates were for what the network said of it: `uncertainty.Ratios`."""
        self.restored: list[Restored] = []
        """The first images of each redaction, to look at; this worker's alone."""

    def put(self, redaction: str, name: str, value: float | None) -> None:
        """Add the figure of one image; None is left out. ValueError: an unknown redaction."""
        if value is not None:
            place = self.redactions.index(redaction), _SUMMED.index(name)
            self.values[place] += torch.tensor((value, 1.0), dtype=torch.float64)

    def count(self, redaction: str, restored: Restored) -> None:
        """Take an image, and how far off it is for what the network said of it."""
        for name in MEASURES:
            self.put(redaction, name, restored.figures[name])
        if restored.off is not None:
            Ratios(self.ratios[self.redactions.index(redaction)].numpy()).add(*restored.off)

    def result(self) -> dict[str, Any]:
        """Give the means: `loss` and `images` of all, and both with `MEASURES` by redaction.

        And `calibration`, as the config of a model has it.

        None stands for a figure that no image has, and for one that is not finite. `images` counts
        those that were measured.
        """
        sums = self.values.tolist()
        losses = [row[0] for row in sums]
        by_redaction: dict[str, dict[str, Any]] = {}
        for text, row in zip(self.redactions, sums, strict=True):
            named = dict(zip(_SUMMED, row, strict=True))
            by_redaction[text] = {"images": round(named["mae"][1])}
            by_redaction[text] |= {name: _mean(*pair) for name, pair in named.items()}
        rows = zip(self.redactions, self.ratios.numpy(), strict=True)
        calibration = calibrate({text: Ratios(counts) for text, counts in rows})
        return {
            "loss": _mean(sum(total for total, _ in losses), sum(count for _, count in losses)),
            "images": sum(row["images"] for row in by_redaction.values()),
            "redactions": by_redaction,
            "calibration": calibration.as_json() if calibration else None,
        }


def validate(  # noqa: PLR0913 - all by name
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    redactions: Iterable[str],
    loss: Loss,
    learn: Learn = "all",
    device: torch.device,
    precision: Precision,
) -> Sums:
    """Redact, restore and measure batches with a copy of the network, which is left as it is.

    Args:
        network: one of `models.BUILDERS`, not wrapped.
        batches: this worker's share of each batch; may be empty.
        redactions: text forms of all redactions of the validation, alike on all workers.
        loss: of the training.
        learn: as `objectives.losses_of` has it.
        device: where the network runs.
        precision: what it computes in.

    Raises:
        InputError: out_of_memory, when a single image does not fit.

    """
    sums = Sums(redactions)
    each = max(1, _SHOWN // max(1, len(sums.redactions)))
    # A copy, as a restorer moves the network, and changes how its weights lie in memory: the
    # training would go on with other roundings than one that is resumed.
    model = Model(name=_name(network), network=copy.deepcopy(network), sha256="", config={})  # type: ignore[arg-type]  # `_name` has checked it
    model.network.eval()
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    restorer = Restorer(model, device=device, precision=kind)
    shown = dict.fromkeys(sums.redactions, 0)
    for batch in batches:
        if not len(batch.images_u8):
            continue
        text = str(batch.how)
        images = batch.images_u8.to(device)
        hidden = None if batch.hidden is None else batch.hidden.to(device)
        for value in _losses(restorer, images, batch.how, hidden, loss=loss, learn=learn):
            sums.put(text, "loss", value)
        for restored in _restored(restorer, images, batch.how, hidden):
            sums.count(text, restored)
            if shown[text] < each:
                shown[text] += 1
                sums.restored.append(restored)
    return sums


def _losses(  # noqa: PLR0913 - the last two by name
    restorer: Restorer,
    images: Tensor,
    how: Redaction,
    hidden: Tensor | None,
    *,
    loss: Loss,
    learn: Learn,
) -> list[float]:
    lower = restorer.precision != torch.float32
    with (
        torch.inference_mode(),
        torch.autocast(restorer.device.type, dtype=restorer.precision, enabled=lower),
    ):
        # As in training, where coarser images count as well.
        restorer.network.train()
        found = losses_of(restorer.network, images, how, hidden, loss=loss, learn=learn)
    restorer.network.eval()
    return [float(value) for value in found.double().cpu()]


def _restored(
    restorer: Restorer, images: Tensor, how: Redaction, hidden: Tensor | None
) -> Iterable[Restored]:
    """Yield what reconstruct would give; images with nothing or everything hidden it refuses."""
    if hidden is not None:
        redacted = images.masked_fill(hidden, HIDDEN_U8)
        results = restorer.fill(list(redacted), list(hidden))
    elif not isinstance(how, Hiding):
        redacted = redact(how, images, ()).images_u8
        results = restorer.enhance(list(redacted), how)
    seen, originals = redacted.cpu(), images.cpu()
    for place, (result, scale) in enumerate(results):
        holes = None if hidden is None else hidden[place, 0].cpu().numpy()
        if holes is not None and (holes.all() or not holes.any()):
            continue
        panels = [pixels_of(image) for image in (result, seen[place], originals[place])]
        yield Restored(
            redaction=str(how),
            redacted=panels[1],
            result=panels[0],
            original=panels[2],
            figures=compare(*panels, how=how, hidden=holes),
            off=(
                errors_and_scales(panels[0], panels[2], scale[0].numpy(), holes)
                if scale is not None
                else None
            ),
        )


def _name(network: nn.Module) -> str:
    for name, builder in BUILDERS.items():
        if type(network) is builder:
            return name
    raise TypeError(f"{type(network).__name__} is none of the networks")


def _mean(total: float, count: float) -> float | None:
    return total / count if count and math.isfinite(total) else None
