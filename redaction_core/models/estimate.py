"""What a network gives: an image, and how far it may be off."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """What a network gives: the image, and the log of a Laplace scale a pixel; both float."""

    image: Tensor
    log_scale: Tensor | None
    coarser: tuple[tuple[Tensor, Tensor], ...] = ()
    """Of a network that trains on them too, images of half the size, a quarter, and so on, each
    with the hidden share of its pixels, (N, 1, h, w)."""


def bounded_log_scale(raw: Tensor) -> Tensor:
    """Log of a Laplace scale between 1/12 of a level of 8 bits and 1, wherever `raw` strays."""
    return 4 * torch.tanh(raw / 4) - 4
