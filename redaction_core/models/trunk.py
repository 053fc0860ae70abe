"""The residual body that the branches of enhancer share in form, not in weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Trunk(nn.Module):
    """Residual blocks of two convolutions without normalisation (Lim et al. 2017, EDSR)."""

    def __init__(
        self, *, inputs: int, kernel: int, conditions: int, width: int, blocks: int
    ) -> None:
        """Build; the first convolution takes `inputs` channels with a kernel of odd size."""
        super().__init__()
        self.width = width
        self.blocks = blocks
        self.enter = nn.Conv2d(inputs, width, kernel, padding=kernel // 2)
        # What is to be undone reaches every residual block as a bias: free at run time.
        self.condition = nn.Linear(conditions, width * (blocks + 1))
        self.first = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        for conv in self.second:
            begin_small(conv)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Give features: float (N, inputs, h, w) and (1, conditions) to (N, width, h, w)."""
        biases = self.condition(condition).view(self.blocks + 1, self.width)
        # Added to the convolutions' own biases, and sums in place: passes over memory cost time.
        skip = x = _biased(self.enter, x, biases[0])
        for bias, first, second in zip(biases[1:], self.first, self.second, strict=True):
            x = second(F.relu(_biased(first, x, bias), inplace=True)).add_(x)
        return x + skip


def begin_small(conv: nn.Module) -> None:
    """Let a convolution add next to nothing at first."""
    weight, bias = conv.parameters()
    nn.init.normal_(weight, std=1e-3)
    nn.init.zeros_(bias)


def _biased(conv: nn.Module, x: Tensor, bias: Tensor) -> Tensor:
    """Convolve, with one more bias."""
    weight, own = conv.parameters()
    return F.conv2d(x, weight, own + bias, padding=weight.shape[-1] // 2)
