"""scikit-image's deconvolutions of a known Gaussian blur, each at its best setting.

As kind to them as can be: the setting is chosen by the originals themselves, and images are
continued by reflection, for Wiener to twice their size, where they are periodic without a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from skimage.restoration import richardson_lucy, wiener

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BALANCES = tuple(float(f"{10**power:.2g}") for power in np.arange(-6, 1.01, 0.25))
ITERATIONS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640)
_BATCH = 16
_SCOUTS = 64


def by_wiener(blurred: Pixels, sigma: float, balance: float) -> Pixels:
    """Deconvolve images, uint8 (N, H, W)."""
    height, width = blurred.shape[1:]
    results = []
    for image in blurred:
        wide = np.pad(_unit(image), ((0, height), (0, width)), mode="symmetric")
        # The mean's own gain is exactly 1: a Laplacian of a constant is 0.
        results.append(wiener(wide, gaussian(sigma), balance)[:height, :width])
    return _to_u8(np.stack(results))


def by_richardson_lucy(blurred: Pixels, sigma: float, iterations: int) -> Pixels:
    """Deconvolve images, uint8 (N, H, W)."""
    # What lies beyond is taken for black; it comes nearer with the iterations.
    margin = min(int(12 * sigma) + 8, *blurred.shape[1:])
    kernel = gaussian(sigma)[None]
    results = []
    for start in range(0, len(blurred), _BATCH):
        batch = _unit(blurred[start : start + _BATCH])
        wide = np.pad(batch, ((0, 0), *2 * ((margin, margin),)), mode="symmetric")
        sharp = richardson_lucy(wide, kernel, iterations, filter_epsilon=1e-6)
        results.append(_to_u8(sharp[:, margin:-margin, margin:-margin]))
    return np.concatenate(results)


def gaussian(sigma: float) -> Floats:
    """Kernel, (side, side), cut off at 4 sigma."""
    away = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    line = np.exp(-0.5 * (away / sigma) ** 2)
    kernel = np.outer(line, line)
    return np.asarray(kernel / kernel.sum(), np.float32)


def at_its_best(
    method: Callable[[Pixels, float, float], Pixels] | Callable[[Pixels, float, int], Pixels],
    settings: Sequence[float],
    blurred: Pixels,
    originals: Pixels,
    sigma: float,
) -> tuple[float, float]:
    """Give the MAE over all images (0-1 scale) at the best setting, and that setting.

    The grid is searched on up to 64 of the same images, spread evenly.
    """

    def mae(setting: float, step: int) -> float:
        estimate = method(blurred[::step], sigma, setting)  # type: ignore[arg-type]  # its own kind
        return float(np.abs(estimate.astype(np.float64) - originals[::step]).mean() / 255)

    best = min(settings, key=lambda setting: mae(setting, -(-len(blurred) // _SCOUTS)))
    return mae(best, 1), best


def _unit(images: Pixels) -> Floats:
    return np.asarray(images, np.float32) / 255


def _to_u8(images: Floats) -> Pixels:
    return np.rint(images * 255).clip(0, 255).astype(np.uint8)
