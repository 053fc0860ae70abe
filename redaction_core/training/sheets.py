"""Restored images of an epoch beside what they were made from, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redaction_core.contact_sheet import Row, contact_sheet
from redaction_core.images import encode
from redaction_core.training.history import judged_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redaction_core.images import Pixels
    from redaction_core.uncertainty import Floats

_COLUMNS: Final = ("redacted", "restored", "original")
_FOOTER: Final = "What is restored is an estimate made by a network, not what was really there."


@dataclass(frozen=True, kw_only=True)
class Restored:
    """One restored image; uint8 HxW or HxWx3, all of one shape."""

    redaction: str
    """In its text form."""
    redacted: Pixels
    result: Pixels
    original: Pixels
    figures: Mapping[str, float | None]
    """`comparison.AGAINST_ORIGINAL`."""
    off: tuple[Floats, Floats] | None = None
    """`uncertainty.errors_and_scales`, of a network that gives scales."""


def samples_png(heading: str, restored: Sequence[Restored]) -> bytes:
    """Draw a row for each image, those of one redaction together: PNG.

    Raises ValueError where there are none.
    """
    order = {text: place for place, text in enumerate(dict.fromkeys(r.redaction for r in restored))}
    rows = [
        Row(
            title=each.redaction,
            note=_note(each),
            panels=(each.redacted, each.result, each.original),
        )
        for each in sorted(restored, key=lambda each: order[each.redaction])
    ]
    return encode(contact_sheet(heading, _COLUMNS, rows, _FOOTER), "png")


def _note(restored: Restored) -> str:
    """Give the error that the redaction is judged by, those without a network, and the PSNR."""
    figures, name = restored.figures, judged_by(restored.redaction)
    parts = [f"{name.upper()} {_short(figures[name])}"]
    before = "as redacted" if name == "mae" else "mean of the rim"
    parts.append(f"{before} {_short(figures[f'baseline_{name}'])}")
    if figures["bicubic_mae"] is not None:
        parts.append(f"bicubic {_short(figures['bicubic_mae'])}")
    if figures["psnr"] is not None:
        parts.append(f"{figures['psnr']:.1f} dB")
    return ", ".join(parts)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:#.3g}"
