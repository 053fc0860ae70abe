"""The enhancer: cost, sizes, and estimates that explain their input."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from redaction_core.models.baselines import EnhancerBaseline
from redaction_core.models.enhancer import (
    Enhancer,
    bounded_log_scale,
    explain,
    fold,
    interpolate_blocks,
    unfold,
)
from redaction_core.redaction import Pixelate, block_means, block_pixels, redact
from tests.unit.networks import noise, wild

GRID = [
    (block, nearest, size)
    for block in (2, 3, 4, 8, 13, 16)
    for nearest in (False, True)
    for size in ((1, 1), (1, 9), (6, 5), (16, 16), (37, 50))
]


def pixelated(how: Pixelate, *shape: int) -> Tensor:
    return redact(how, noise(*shape), [""] * shape[0]).images_u8.float() / 255


def test_it_costs_a_twentieth_of_the_published_network() -> None:
    image = torch.zeros(1, 1, 224, 224, device="meta")

    def flops(network: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            network.to("meta")(image, Pixelate(block=4))
        return counter.get_total_flops()

    published = flops(EnhancerBaseline())
    assert published == pytest.approx(67e9, rel=0.01)
    assert flops(Enhancer()) <= published / 20


@pytest.mark.parametrize(("block", "nearest", "size"), GRID)
def test_an_estimate_explains_its_input(
    block: int, size: tuple[int, int], *, nearest: bool
) -> None:
    how = Pixelate(block=block, nearest=nearest)
    seen = pixelated(how, 2, 1, *size)

    with torch.inference_mode():
        estimate = wild(Enhancer(width=8, blocks=1))(seen, how)

    assert estimate.image.shape == seen.shape
    assert estimate.image.dtype == torch.float32
    what = block_pixels if nearest else block_means
    assert torch.allclose(what(estimate.image, block), what(seen, block), atol=1e-5)
    assert estimate.log_scale is not None
    assert estimate.log_scale.shape == seen.shape
    assert bool(estimate.log_scale.isfinite().all())


def test_the_estimate_is_the_same_without_its_scale() -> None:
    how = Pixelate(block=4)
    seen = pixelated(how, 2, 1, 20, 24)
    network = wild(Enhancer(width=8, blocks=2))

    alone = network(seen, how, with_scale=False)

    assert alone.log_scale is None
    assert torch.equal(alone.image, network(seen, how).image)


@pytest.mark.parametrize(("block", "nearest", "size"), GRID)
def test_explaining_the_input_never_adds_to_the_error(
    block: int, size: tuple[int, int], *, nearest: bool
) -> None:
    how = Pixelate(block=block, nearest=nearest)
    truth = noise(1, 3, *size).double() / 255
    what = block_pixels if nearest else block_means
    seen = what(truth, block).repeat_interleave(block, -1).repeat_interleave(block, -2)
    seen = seen[..., : size[0], : size[1]]
    estimate = torch.rand_like(truth)

    explained = explain(estimate, seen, how)

    assert (explained - truth).norm() <= (estimate - truth).norm() + 1e-9
    assert torch.allclose(explain(explained, seen, how), explained)


@pytest.mark.parametrize("block", [2, 3, 4, 8, 16])
def test_interpolation_starts_from_the_blocks_alone(block: int) -> None:
    even = torch.full((1, 1, 20, 31), 0.3)
    ramp = (torch.arange(64.0) // block).expand(1, 1, 64, 64)

    assert torch.allclose(interpolate_blocks(even, block), even, atol=1e-6)
    # Far from the edges a ramp of blocks becomes the straight line through their centres.
    line = (torch.arange(64) - (block - 1) / 2) / block
    middle = slice(2 * block, 64 - 2 * block)
    found = interpolate_blocks(ramp, block)[0, 0]
    assert torch.allclose(found[:, middle], line[middle].expand(64, -1), atol=1e-4)


@pytest.mark.parametrize("block", [2, 4, 8])
def test_interpolation_is_the_bicubic_of_pillow(block: int) -> None:
    blocks = noise(12, 20)
    pixelated = blocks.repeat_interleave(block, 0).repeat_interleave(block, 1)

    found = interpolate_blocks(pixelated[None, None].float(), block)[0, 0]

    size = (20 * block, 12 * block)
    # In floating point, as Pillow would else clip between rows and columns.
    expected = Image.fromarray(blocks.float().numpy()).resize(size, Image.Resampling.BICUBIC)
    assert np.allclose(found.numpy(), np.asarray(expected), atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 11), (8, 3)])
def test_folding_keeps_every_pixel(size: tuple[int, int]) -> None:
    images = noise(2, 3, *size).float()

    folded = fold(images)

    assert folded.shape == (2, 48, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.equal(nn.PixelShuffle(4)(folded)[..., : size[0], : size[1]], images)
    assert torch.equal(unfold(folded[:, 16:32]), nn.PixelShuffle(4)(folded[:, 16:32]))


def test_block_size_and_sampling_reach_the_network() -> None:
    network = wild(Enhancer(width=8, blocks=1))
    flat = torch.full((1, 1, 48, 48), 0.5)

    with torch.inference_mode():
        # On one gray value nothing but the condition can tell the blocks apart.
        same = torch.zeros(1, 32, 12, 12)
        before = [
            network.enter(same) + network.condition(condition).view(1, 2, 8, 1, 1)[:, 0]
            for condition in (torch.eye(4)[:1], torch.eye(4)[1:2])
        ]
        four = network(flat, Pixelate(block=4)).log_scale
        other = network(flat, Pixelate(block=8)).log_scale
        nearest = network(flat, Pixelate(block=4, nearest=True)).log_scale

    assert not torch.allclose(before[0], before[1])
    assert not torch.allclose(four, other)
    assert not torch.allclose(four, nearest)


def test_learning_the_scale_costs_the_estimate_nothing() -> None:
    network = wild(Enhancer(width=8, blocks=1))
    how = Pixelate(block=4)

    network(pixelated(how, 1, 1, 16, 16), how).log_scale.sum().backward()

    for name, parameter in network.named_parameters():
        if name.startswith("scale."):
            assert parameter.grad.abs().max() > 0
        else:
            assert parameter.grad is None or not parameter.grad.any(), name


def test_the_scale_has_bounds_and_begins_between_them() -> None:
    raw = torch.tensor([-1e9, -1.0, 0.0, 1.0, 1e9])

    bounded = bounded_log_scale(raw)

    assert bounded[2] == -4
    assert bool((bounded.diff() > 0).all())
    assert (bounded[0], bounded[-1]) == (-8, 0)


def test_images_of_a_batch_do_not_touch() -> None:
    network = wild(Enhancer(width=8, blocks=2))
    how = Pixelate(block=8)
    images = pixelated(how, 3, 1, 40, 40)

    with torch.inference_mode():
        whole = network(images, how).image
        single = torch.cat([network(image[None], how).image for image in images])

    assert torch.allclose(whole, single, atol=1e-4)
