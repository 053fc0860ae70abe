"""Pictures side by side with labels, for people who compare them by eye."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from redaction_core.images import Pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAPER, _INK, _FAINT = (255, 255, 255), (24, 24, 24), (104, 104, 104)
_MARGIN, _GAP = 24, 10
_HEADING, _LABEL, _SMALL = 22, 16, 14
"""Heights of letters, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture in several states."""

    title: str
    note: str
    """Fainter, on the right: its figures, for example."""
    panels: tuple[Pixels, ...]
    """One a column, uint8 HxW or HxWx3, all of one height and width."""


def contact_sheet(
    heading: str, columns: Sequence[str], rows: Sequence[Row], footer: str, *, side: int = 240
) -> Pixels:
    """Set rows of panels under named columns: uint8 HxWx3.

    Panels are enlarged by a whole factor so that their pixels stay visible as they are, to at most
    `side` pixels where they are smaller. Raises ValueError for rows of another number of panels.
    """
    if not rows or any(len(row.panels) != len(columns) for row in rows):
        raise ValueError(f"every row has {len(columns)} panels, and there is at least one row")
    grown = [[_enlarged(panel, side) for panel in row.panels] for row in rows]
    wide = max(side, *(panel.width for panels in grown for panel in panels))
    tops = [_MARGIN + _HEADING + 3 * _GAP + _LABEL]
    for panels in grown:
        tops.append(tops[-1] + _LABEL + panels[0].height + 4 * _GAP)
    width = 2 * _MARGIN + len(columns) * wide + (len(columns) - 1) * _GAP
    sheet = Image.new("RGB", (width, tops[-1] + _SMALL + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [_MARGIN + number * (wide + _GAP) for number in range(len(columns))]
    draw.text((_MARGIN, _MARGIN), heading, _INK, _font(_HEADING))
    for left, name in zip(lefts, columns, strict=True):
        draw.text((left, tops[0] - _LABEL - _GAP), name, _INK, _font(_LABEL))
    for top, row, panels in zip(tops, rows, grown, strict=False):
        line = top + _GAP
        draw.text((_MARGIN, line), row.title, _INK, _font(_LABEL))
        draw.text((width - _MARGIN, line), row.note, _FAINT, _font(_LABEL), anchor="ra")
        for left, panel in zip(lefts, panels, strict=True):
            sheet.paste(panel, (left, line + _LABEL + _GAP))
    draw.text((_MARGIN, tops[-1]), footer, _FAINT, _font(_SMALL))
    return np.array(sheet)


def _enlarged(pixels: Pixels, side: int) -> Image.Image:
    image = Image.fromarray(pixels).convert("RGB")
    factor = max(1, side // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)
