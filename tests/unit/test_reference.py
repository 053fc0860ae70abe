"""What needs no network: bicubic interpolation in strips, and the mean of a hole's ring."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from redaction_core.redaction import Pixelate, redact
from redaction_core.reference import bicubic, surroundings
from tests.unit.networks import noise

Pixels = npt.NDArray[np.uint8]


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (64, 64), (300, 270)])
@pytest.mark.parametrize("block", [2, 3, 4, 16])
def test_it_is_the_bicubic_of_pytorch_in_any_number_of_pieces(
    block: int, size: tuple[int, int], colours: int
) -> None:
    height, width = size
    pixelated = redact(Pixelate(block=block), noise(1, colours, *size), [""]).images_u8
    planes = pixelated[0].permute(1, 2, 0).numpy()

    found = bicubic(planes[..., 0] if colours == 1 else planes, block)

    blocks = pixelated[..., ::block, ::block].float()
    whole = F.interpolate(blocks, scale_factor=block, mode="bicubic").round().clamp(0, 255)
    expected = whole[0, :, :height, :width].permute(1, 2, 0).to(torch.uint8).numpy()
    assert found.dtype == np.uint8
    difference = np.abs(found.reshape(expected.shape).astype(int) - expected)
    # What lies half-way between two levels may go to either.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def ring_by_ring(image: Pixels, hidden: npt.NDArray[np.bool_]) -> Pixels:
    """Do the same with SciPy, for holes that share no ring."""
    result = image.copy()
    labels, count = ndimage.label(hidden, np.ones((3, 3)))
    for label in range(1, count + 1):
        hole = labels == label
        ring = ndimage.binary_dilation(hole, np.ones((3, 3))) & ~hidden
        result[hole] = np.rint(image[ring].astype(np.float64).mean(0)).astype(np.uint8)
    return result


@pytest.mark.parametrize("shape", [(20, 31), (20, 31, 3)])
def test_holes_become_the_mean_of_their_ring(shape: tuple[int, ...]) -> None:
    image = noise(*shape).numpy()
    hidden = np.zeros(shape[:2], bool)
    hidden[3:7, 4:9] = True
    hidden[7, 9] = True  # touches by a corner: the same hole
    hidden[0:2, 28:31] = True
    hidden[15, 15] = True

    assert np.array_equal(surroundings(image, hidden), ring_by_ring(image, hidden))


def test_a_hole_without_a_ring_of_its_own_takes_the_mean_of_all() -> None:
    image = np.array([[9, 100, 9]], np.uint8)
    hidden = np.array([[True, False, True]])

    assert surroundings(image, hidden).tolist() == [[100, 100, 100]]


@pytest.mark.parametrize("shape", [(1, 2), (2, 1, 3), (9, 9), (30, 40, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_known_pixels_stay_and_fillings_lie_between_them(shape: tuple[int, ...], seed: int) -> None:
    image = noise(*shape, seed=seed).numpy()
    hidden = np.random.default_rng(seed).random(shape[:2]) < 0.6
    hidden.flat[0], hidden.flat[-1] = True, False

    filled = surroundings(image, hidden)

    assert np.array_equal(filled[~hidden], image[~hidden])
    assert (filled[hidden] >= image[~hidden].min(0)).all()
    assert (filled[hidden] <= image[~hidden].max(0)).all()


def test_inputs_are_left_alone() -> None:
    image = noise(9, 9, 3).numpy()
    before = image.copy()
    hidden = np.zeros((9, 9), bool)
    hidden[4, 4] = True

    surroundings(image, hidden)

    assert np.array_equal(image, before)
