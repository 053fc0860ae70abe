"""What a training of each network is made of unless something else is asked for, and may be."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Final

from redaction_core.errors import UsageError
from redaction_core.models import BUILDERS, FILLS_HOLES
from redaction_core.models.enhancer import MAX_BLOCK, SIGMAS
from redaction_core.redaction import Blur, Hiding, Pixelate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redaction_core.mixture import RedactionMixture
    from redaction_core.training.recipe import Loss

REDACTIONS: Final = {
    "enhancer": (
        *("pixelate:4=3", "pixelate:4:nearest=3", "pixelate:8=3", "pixelate:2-16=1"),
        *("pixelate:2-16:nearest=1", "blur:1-4=4"),
    ),
    "redacto": ("box:0.01-0.25@random", "freeform:0.05-0.4@random", "pixels:0.1-0.9@random=0.3"),
    "enhancer-baseline": ("pixelate:4:nearest",),
    "redacto-baseline": ("box:4x4@center",),
}
"""What each network learns to undo; the baselines as published."""

LOSSES: Final[Mapping[str, Loss]] = {
    "enhancer": "mae",
    "redacto": "balanced",
    "enhancer-baseline": "mae",
    "redacto-baseline": "mse",
}
"""What is made small."""

LEARNING_RATES: Final = {
    "enhancer": 4e-4,
    "redacto": 2e-3,
    "enhancer-baseline": 1e-3,
    "redacto-baseline": 1e-3,
}
"""The highest. Enhancer starts from what is good already: of 1e-3 and more it comes to harm."""

_LEAST: Final = {"mask_everywhere": 0, "blocks": 1, "coarse_blocks": 1}
_LEAST_WIDTH: Final = 2


def architecture_of(
    network: str, asked_for: Iterable[str], has: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Give the arguments of a network's class: those asked for as NAME=NUMBER, or a model's own.

    Raises UsageError: the network has no such size, it is too small, or the model has another.
    """
    takes = inspect.signature(BUILDERS[network]).parameters
    sizes = dict(_size(text) for text in asked_for)
    if unknown := sorted(set(sizes) - set(takes)):
        may = f"it takes {', '.join(takes)}" if takes else "it has one size only"
        raise UsageError(f"--architecture {unknown[0]}: {network} has none; {may}")
    for name, value in sizes.items():
        least = _LEAST.get(name, _LEAST_WIDTH)
        if value < least:
            raise UsageError(f"--architecture {name}={value}: at least {least}")
    if has is None:
        return sizes
    for name, value in sizes.items():
        if has.get(name, takes[name].default) != value:
            raise UsageError(
                f"--architecture {name}={value}: the model of --init has another: leave it out"
            )
    return dict(has)


def _size(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"([a-z_]+)=(\d{1,5})", text)
    if match is None:
        raise UsageError(f"--architecture {text}: write NAME=NUMBER, such as width=32")
    return match[1], int(match[2])


def check_redactions(network: str, mixture: RedactionMixture) -> None:
    """Raise UsageError where a network cannot undo one of these."""
    for how in mixture.extremes:
        if isinstance(how, Hiding) != (network in FILLS_HOLES):
            does = "fills hidden pixels: train it for box:, freeform: or pixels:"
            undoes = "undoes pixelation and blur: train it for pixelate: or blur:"
            raise UsageError(
                f"--redact {how}: {network} {does if network in FILLS_HOLES else undoes}"
            )
        if isinstance(how, Pixelate) and how.block > MAX_BLOCK:
            raise UsageError(f"--redact {how}: blocks have 2 to {MAX_BLOCK} pixels a side")
        least, most = SIGMAS
        if isinstance(how, Blur) and not least <= how.sigma <= most:
            raise UsageError(f"--redact {how}: blur has a sigma of {least:g} to {most:g} pixels")
