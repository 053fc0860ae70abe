"""The enhancer: cost, sizes, and estimates that explain their input."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from redaction_core.models.baselines import EnhancerBaseline
from redaction_core.models.enhancer import Enhancer, fold
from redaction_core.models.estimate import bounded_log_scale
from redaction_core.models.patches import Patches, unfold
from redaction_core.models.starts import (
    SMOOTHNESS,
    deconvolve,
    explain,
    interpolate_blocks,
    start_of,
)
from redaction_core.redaction import Blur, Pixelate, block_means, block_pixels, blur_kernel, redact
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


@pytest.mark.parametrize("block", [1, 2, 4, 7])
def test_unfolding_is_the_sub_pixel_shuffle(block: int) -> None:
    folded = torch.rand(2, block**2, 3, 5)

    assert torch.equal(unfold(folded, block), nn.PixelShuffle(block)(folded))


@pytest.mark.parametrize("block", [2, 3, 4, 8, 16])
def test_patches_are_the_same_picture_at_every_block_size(block: int) -> None:
    """One wave over a block, whatever its size: what is learnt on one holds for the others."""
    patches = Patches(1, order=8, kernel=1)
    with torch.no_grad():
        patches.conv.weight.zero_()
        patches.conv.weight[8] = 1.0  # one half wave downwards

    found = patches(torch.ones(1, 1, 1, 1), block)[0, 0]

    places = (torch.arange(block) + 0.5) / block
    expected = torch.cos(torch.pi * places) * 2**0.5 / 2
    assert torch.allclose(found, expected[:, None].expand(block, block), atol=1e-6)


@pytest.mark.parametrize("how", [Pixelate(block=4), Pixelate(block=6, nearest=True)])
def test_training_begins_from_the_classical_estimate(how: Pixelate) -> None:
    images = redact(how, noise(1, 1, 32, 32), [""]).images_u8.float() / 255

    with torch.inference_mode():
        estimate = Enhancer(width=8, blocks=1)(images, how).image
        expected = explain(start_of(images, how), images, how)

    assert torch.allclose(estimate, expected, atol=1e-6)


@pytest.mark.parametrize("block", [2, 5, 8])
def test_patches_may_have_no_mean_of_their_own(block: int) -> None:
    patches = wild(Patches(3, order=8))

    found = patches(torch.rand(1, 3, 2, 4), block, level=True)

    assert found.abs().max() > 0.1
    assert block_means(found, block).abs().max() < 1e-5


def test_block_size_and_sampling_reach_the_network() -> None:
    network = wild(Enhancer(width=8, blocks=1))
    flat = torch.full((1, 1, 48, 48), 0.5)

    with torch.inference_mode():
        # On one gray value nothing but the condition can tell the redactions apart.
        scales = [
            network(flat, how).log_scale[..., 24, 24]
            for how in (
                Pixelate(block=4),
                Pixelate(block=8),
                Pixelate(block=4, nearest=True),
                Blur(sigma=1.0),
                Blur(sigma=2.0),
            )
        ]

    assert len({float(scale) for scale in scales}) == 5


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (16, 16), (37, 50)])
def test_a_blur_may_have_any_size_of_image(size: tuple[int, int]) -> None:
    how = Blur(sigma=1.5)
    seen = redact(how, noise(2, 1, *size), ["", ""]).images_u8.float() / 255

    with torch.inference_mode():
        estimate = wild(Enhancer(width=8, blocks=1))(seen, how)

    assert estimate.image.shape == estimate.log_scale.shape == seen.shape
    assert bool(estimate.image.isfinite().all())
    assert torch.equal(explain(estimate.image, seen, how), estimate.image)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_deconvolution_brings_back_what_a_blur_left(sigma: float) -> None:
    """What was blurred with mirrored edges and not rounded comes back where it is not lost."""
    coarse = torch.nn.functional.interpolate(
        torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0)),
        scale_factor=16,
        mode="bicubic",
    )
    padded = torch.cat((coarse.flip(-1), coarse, coarse.flip(-1)), -1)
    padded = torch.cat((padded.flip(-2), padded, padded.flip(-2)), -2)
    kernel = blur_kernel(sigma).expand(3, 1, 1, -1)
    blurred = torch.nn.functional.conv2d(padded, kernel, padding="same", groups=3)
    blurred = torch.nn.functional.conv2d(blurred, kernel.mT, padding="same", groups=3)
    blurred = blurred[..., 80:160, 96:192]

    sharp = deconvolve(blurred, sigma, [1e-6])

    assert (sharp - coarse).abs().max() < 0.1 * (blurred - coarse).abs().max()


def test_the_smoother_the_less_is_brought_back() -> None:
    blurred = redact(Blur(sigma=1.5), noise(1, 1, 40, 40), ()).images_u8.float() / 255

    ways = deconvolve(blurred, 1.5, (1e-6, 1e-3, 1.0, 1e3))

    spreads = ways.std((-1, -2))[0]
    assert bool((spreads.diff() < 0).all())
    for number, smoothness in enumerate((1e-6, 1e-3, 1.0, 1e3)):
        assert torch.equal(ways[:, number : number + 1], deconvolve(blurred, 1.5, [smoothness]))


def test_features_say_which_deconvolution_to_follow() -> None:
    """At first all alike; with no detail and one of them far ahead, that one alone."""
    network, how = Enhancer(width=8, blocks=1), Blur(sigma=1.5)
    blurred = redact(how, noise(2, 1, 30, 41), ()).images_u8.float() / 255
    ways = deconvolve(blurred, how.sigma)
    with torch.inference_mode():
        assert torch.allclose(network(blurred, how).image, ways.mean(1, keepdim=True), atol=1e-5)
        for number in range(len(SMOOTHNESS)):
            network.blend.bias.copy_(100 * torch.eye(len(SMOOTHNESS))[number])
            chosen = ways[:, number : number + 1]
            assert torch.allclose(network(blurred, how).image, chosen, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (16, 16)])
def test_flat_images_stay_flat(size: tuple[int, int]) -> None:
    flat = torch.full((1, 1, *size), 0.25)

    assert torch.allclose(deconvolve(flat, 2.0), flat, atol=1e-5)  # in every way


def test_deconvolution_keeps_the_mean() -> None:
    images = torch.rand(2, 1, 20, 31)

    assert torch.allclose(deconvolve(images, 3.0).mean((-1, -2)), images.mean((-1, -2)), atol=1e-4)


def test_every_redaction_has_its_start() -> None:
    images = pixelated(Pixelate(block=4), 1, 1, 24, 24)

    starts = [
        start_of(images, how)
        for how in (Pixelate(block=4), Pixelate(block=4, nearest=True), Blur(sigma=1.0))
    ]

    assert torch.equal(starts[0], interpolate_blocks(images, 4))
    assert not torch.allclose(starts[0], starts[1])
    assert torch.equal(starts[2], deconvolve(images, 1.0, SMOOTHNESS[1:2]))


def test_learning_the_scale_costs_the_estimate_nothing() -> None:
    network = wild(Enhancer(width=8, blocks=1))
    how = Pixelate(block=4)

    network(pixelated(how, 1, 1, 16, 16), how).log_scale.sum().backward()

    for name, parameter in network.named_parameters():
        if name.startswith("scale.blur."):
            assert parameter.grad is None
        elif name.startswith("scale."):
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
