"""The curves of a training as one picture, for a person who judges it."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from redaction_core.training.history import judged_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from redaction_core.training.history import History

# Colours that people with colour blindness can tell apart (Okabe and Ito 2008).
_BLUE, _ORANGE, _GREEN, _GRAY = "#0072B2", "#D55E00", "#009E73", "#595959"
_COLUMNS: Final = 3
"""At most; two where there are few redactions."""
_WIDTH, _HEIGHT = 4.2, 3.1
"""Inches of one panel."""
_DPI: Final = 100
_MARKED: Final = 40
"""Up to so many epochs, each is a point on its line."""
_SETTLED: Final = 0.1
"""Share of the epochs, the first ones, whose losses may leave the panel at the top."""
_ROOM: Final = 1.18
"""The highest level of a panel is this much below its top: for its label."""


def curves_png(history: History, heading: str) -> bytes:
    """Draw losses, learning rate, and the error of each redaction beside those without a network.

    PNG. Raises ValueError for a history without epochs.
    """
    if not history.epochs:
        raise ValueError("there is nothing to draw yet")
    epochs = [each.epoch for each in history.epochs]
    redactions = history.redactions
    columns = min(_COLUMNS, max(2, len(redactions)))
    rows = 1 + math.ceil(len(redactions) / columns)
    # Not by pyplot, whose state is shared by all threads.
    figure = Figure((columns * _WIDTH, rows * _HEIGHT + 0.5), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    last, best = history.epochs[-1], history.best
    title = f"{heading}: {last.epoch} epoch{'s' if last.epoch > 1 else ''}, {last.step:,} steps"
    if best is not None:
        title += f"; lowest validation loss {best.val_loss:.4g} after epoch {best.epoch}"
    figure.suptitle(title, fontsize=12, parse_math=False)
    grid = figure.add_gridspec(rows, columns)
    _losses(figure.add_subplot(grid[0, : columns - 1]), history, epochs)
    rate = figure.add_subplot(grid[0, columns - 1])
    _line(rate, epochs, [each.learning_rate for each in history.epochs], None, _GREEN)
    rate.set_ylim(bottom=0)
    _finish(rate, "Learning rate", epochs)
    for place, text in enumerate(redactions):
        axes = figure.add_subplot(grid[1 + place // columns, place % columns])
        _redaction(axes, history, text, epochs)
    if best is not None and len(epochs) > 1:
        for axes in figure.axes:
            axes.axvline(best.epoch, color=_GRAY, linewidth=0.8, alpha=0.5, zorder=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _losses(axes: Axes, history: History, epochs: Sequence[int]) -> None:
    training = [each.train_loss for each in history.epochs]
    validation = [each.val_loss for each in history.epochs]
    _line(axes, epochs, training, "training", _BLUE)
    _line(axes, epochs, validation, "validation", _ORANGE)
    # The losses of the first epochs may be so high that all others would look alike.
    first = math.ceil(_SETTLED * len(epochs)) if len(epochs) > 1 else 0
    settled = [value for value in (*training[first:], *validation[first:]) if value is not None]
    title = "Loss"
    if settled:
        low, high = min(settled), max(settled)
        reach = high + 0.5 * (high - low)
        above = [v for v in (*training[:first], *validation[:first]) if v is not None and v > reach]
        if above and high > low:
            axes.set_ylim(low - 0.05 * (high - low), reach)
            title += f"   (at first up to {max(above):.3g}, above the panel)"
    _finish(axes, title, epochs)
    axes.legend(fontsize=8, loc="upper right", framealpha=0.9)


def _redaction(axes: Axes, history: History, text: str, epochs: Sequence[int]) -> None:
    name = judged_by(text)
    errors = history.figures(text, name)
    _line(axes, epochs, errors, None, _BLUE)
    before = "as redacted" if name == "mae" else "mean of the rim"
    levels = [
        (value, label, colour)
        for label, key, colour in (
            (before, f"baseline_{name}", _GRAY),
            ("bicubic", "bicubic_mae", _ORANGE),
        )
        if (value := _last(history.figures(text, key))) is not None
    ]
    top = _ROOM * max(
        (value for value in (*errors, *(each[0] for each in levels)) if value), default=1
    )
    axes.set_ylim(0, top)
    for value, label, colour in levels:
        axes.axhline(value, color=colour, linestyle="--", linewidth=1.4)
        # Below its line, where the label of a line closely above would be in the way.
        below = any(0 < other - value < 0.09 * top for other, _, _ in levels)
        axes.annotate(
            f"{label} {value:.3g}",
            (0.98, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3 if below else 2),
            textcoords="offset points",
            ha="right",
            va="top" if below else "bottom",
            fontsize=8,
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
            parse_math=False,
        )
    now = _last(errors)
    title = text if now is None else f"{text}\n{name.upper()} {now:.3g}"
    if now is not None and levels:
        value, label, _ = levels[-1]
        change = round(100 * (now / value - 1)) if value else 0
        title += f", {abs(change)} % {'above' if change > 0 else 'below'} {label}"
    _finish(axes, title, epochs)


def _line(
    axes: Axes,
    epochs: Sequence[int],
    values: Sequence[float | None],
    label: str | None,
    colour: str,
) -> None:
    # What is None leaves a gap.
    heights = [math.nan if value is None else value for value in values]
    marker = "o" if len(epochs) <= _MARKED else ""
    axes.plot(
        epochs, heights, color=colour, marker=marker, markersize=3.5, linewidth=1.6, label=label
    )


def _finish(axes: Axes, title: str, epochs: Sequence[int]) -> None:
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.tick_params(labelsize=8)
    axes.grid(color="#E0E0E0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("epoch", fontsize=8)


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)
