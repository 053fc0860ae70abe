"""One restored image beside its original, and beside what was there without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redaction_core.metrics import mean_errors, measure, psnr
from redaction_core.redaction import Pixelate
from redaction_core.reference import bicubic, surroundings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from redaction_core.images import Pixels
    from redaction_core.mosaic import Mosaic
    from redaction_core.redaction import Redaction

AGAINST_ORIGINAL = (
    *("mae", "mse", "psnr", "ssim", "error_p50", "error_p95", "error_p99"),
    *("baseline_mae", "baseline_mse", "baseline_psnr", "bicubic_mae", "recovered"),
)
"""What `compare` gives."""
_OF_RESULT = AGAINST_ORIGINAL[:7]


def compare(  # noqa: PLR0913 - the last three by name
    result: Pixels,
    redacted: Pixels,
    original: Pixels,
    *,
    how: Redaction | None,
    hidden: npt.NDArray[np.bool_] | None,
    mosaic: Mosaic | None = None,
) -> dict[str, float | None]:
    """Give all of `AGAINST_ORIGINAL`, as `schemas.METRICS` has them.

    Args:
        result: uint8 HxW or HxWx3; the other images have its shape.
        redacted: what the network got.
        original: the clean image.
        how: the redaction, where it is known.
        hidden: bool HxW, some and not all of it; only what is hidden counts.
        mosaic: the blocks, where they are not `Mosaic.plain`; only what is pixelated counts.

    """
    baseline = redacted if hidden is None else surroundings(redacted, hidden)
    counted = mosaic.region if mosaic else hidden
    errors = measure(result, original, counted)
    before, squared = mean_errors(baseline, original, counted)
    found: dict[str, float | None] = {name: getattr(errors, name) for name in _OF_RESULT}
    found |= {"baseline_mae": before, "baseline_mse": squared, "baseline_psnr": psnr(squared)}
    found["bicubic_mae"] = None
    if isinstance(how, Pixelate):
        if mosaic is None:
            smooth = bicubic(redacted, how.block)
        else:
            smooth = mosaic.cut(bicubic(mosaic.for_network(redacted), how.block), redacted)
        found["bicubic_mae"], _ = mean_errors(smooth, original, counted)
    return found | {"recovered": 1 - errors.mae / before if before else None}
