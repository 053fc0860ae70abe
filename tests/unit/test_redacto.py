"""Redacto: what it may touch, what it may see, and at which sizes."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from redaction_core.models.redacto import Redacto, masked_pyramid
from tests.unit.networks import holes, wild

SMALL = {"width": 8, "blocks": 2, "coarse_width": 12, "coarse_blocks": 1}
SIZES = [(1, 2), (2, 1), (5, 4), (16, 16), (33, 21)]


def network(**architecture: int) -> Redacto:
    redacto = Redacto(**(SMALL | architecture))
    wild(redacto)
    return redacto


@pytest.mark.parametrize("size", SIZES)
def test_known_pixels_come_back_bit_for_bit(size: tuple[int, int]) -> None:
    images, hidden = torch.rand(2, 3, *size), holes(2, *size)

    with torch.inference_mode():
        estimate = network()(images, hidden)

    assert estimate.image.shape == images.shape
    assert estimate.log_scale.shape == (2, 1, *size)
    known = ~hidden.expand(-1, 3, -1, -1)
    assert torch.equal(estimate.image[known], images[known])
    assert not torch.equal(estimate.image, images)


@pytest.mark.parametrize("size", SIZES)
def test_hidden_pixels_are_not_looked_at(size: tuple[int, int]) -> None:
    images, hidden = torch.rand(2, 3, *size), holes(2, *size)
    others = torch.where(hidden, torch.rand_like(images), images)

    with torch.inference_mode():
        assert torch.equal(network()(images, hidden).image, network()(others, hidden).image)


def test_an_image_without_anything_known_still_has_an_estimate() -> None:
    hidden = torch.ones(1, 1, 9, 13, dtype=torch.bool)

    with torch.inference_mode():
        estimate = network()(torch.rand(1, 3, 9, 13), hidden)

    assert bool(estimate.image.isfinite().all())


def test_the_mask_reaches_every_layer_but_the_output() -> None:
    """Each convolution up to the last is given the mask beside its features."""
    redacto = network()
    images, hidden = torch.rand(1, 3, 16, 16), holes(1, 16, 16)
    shares = [share for _, share in masked_pyramid(images, hidden)]
    seen: dict[str, list[Tensor]] = {}
    for name, layer in redacto.named_modules():
        if isinstance(layer, nn.Conv2d) and not name.startswith(("hand", "scale")):
            channel = 3 if name.endswith("enter") else -1
            layer.register_forward_pre_hook(
                lambda _, inputs, name=name, channel=channel: seen.setdefault(name, []).append(
                    inputs[0][:, [channel]]
                )
            )

    with torch.inference_mode():
        redacto(images, hidden)

    layers = {"fine": 2, "coarse": 1}
    assert set(seen) == {
        f"{net}.{layer}"
        for net, blocks in layers.items()
        for layer in (
            *("enter", "leave"),
            *(f"{half}.{number}" for half in ("first", "second") for number in range(blocks)),
        )
    }
    for name, masks in seen.items():
        expected = shares[:1] if name.startswith("fine") else shares[:0:-1]
        assert len(masks) == len(expected)
        assert all(map(torch.equal, masks, expected)), name


def test_an_image_does_not_depend_on_others_of_its_batch() -> None:
    """A neighbour with a larger hole needs more scales; an image is the same without it."""
    redacto = network()
    images = torch.rand(2, 3, 40, 40)
    hidden = holes(2, 40, 40)
    hidden[1, :, 4:36, 4:36] = True

    with torch.inference_mode():
        both = redacto(images, hidden)
        alone = redacto(images[:1], hidden[:1])

    assert torch.allclose(both.image[:1], alone.image, atol=1e-5)
    assert torch.allclose(both.log_scale[:1], alone.log_scale, atol=1e-5)


def test_coarser_images_are_given_while_training() -> None:
    redacto = network()
    images, hidden = torch.rand(1, 3, 33, 21), holes(1, 33, 21)

    assert redacto(images, hidden).coarser == ()
    coarser = redacto.train()(images, hidden).coarser

    scales = masked_pyramid(images, hidden)[1:]
    assert [image.shape for image, _ in coarser] == [image.shape for image, _ in scales]
    for (image, given), (base, share) in zip(coarser, scales, strict=True):
        assert torch.equal(given, share)
        known = (share == 0).expand_as(image)
        assert torch.equal(image[known], base[known])


def test_it_sees_across_a_large_hole() -> None:
    """The middle of a hole far wider than the convolutions reach depends on what is around it."""
    redacto = network()
    hidden = torch.zeros(1, 1, 96, 96, dtype=torch.bool)
    hidden[..., 8:88, 8:88] = True
    dark = torch.zeros(1, 3, 96, 96)

    with torch.inference_mode():
        one, other = redacto(dark, hidden).image, redacto(dark + 0.8, hidden).image

    assert redacto.fine.reach < 40
    assert (one - other)[..., 40:56, 40:56].abs().min() > 0


@pytest.mark.parametrize("size", [(150, 141), (300, 20), (129, 400)])
def test_a_large_image_in_pieces_equals_the_whole(size: tuple[int, int]) -> None:
    redacto = network()
    images, hidden = torch.rand(1, 3, *size), holes(1, *size)

    with torch.inference_mode():
        pieces = redacto(images, hidden)
        # Training sees images whole.
        whole = redacto.train()(images, hidden)

    assert torch.allclose(pieces.image, whole.image, atol=1e-4)
    assert torch.allclose(pieces.log_scale[hidden], whole.log_scale[hidden], atol=1e-4)


def test_pieces_without_hidden_pixels_cost_nothing() -> None:
    redacto = network()
    hidden = torch.zeros(1, 1, 600, 600, dtype=torch.bool)
    hidden[..., 300:304, 300:304] = True
    sizes: list[int] = []
    redacto.fine.enter.register_forward_pre_hook(
        lambda _, inputs: sizes.append(inputs[0].shape[-1])
    )

    with torch.inference_mode():
        redacto(torch.rand(1, 3, 600, 600), hidden)

    assert sum(size**2 for size in sizes) < 600**2 / 4


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (7, 64)])
def test_a_pyramid_ends_where_nothing_is_wholly_hidden(size: tuple[int, int]) -> None:
    images, hidden = torch.rand(2, 3, *size), holes(2, *size)

    scales = masked_pyramid(images, hidden)

    for (fine, _), (coarse, _) in itertools.pairwise(scales):
        assert coarse.shape[-2:] == tuple(-(-side // 2) for side in fine.shape[-2:])
    assert torch.equal(scales[0][1], hidden.float())
    last_image, last_share = scales[-1]
    assert not (last_share == 1).any() or max(last_image.shape[-2:]) == 1
    assert all(bool((share == 1).any()) for _, share in scales[:-1])
    for image, share in scales:
        assert bool(((share >= 0) & (share <= 1)).all())
        assert bool((image.masked_select(share == 1) == 0.5).all())


def test_coarse_pixels_are_means_of_the_known_ones() -> None:
    image = torch.zeros(1, 1, 2, 4)
    image[0, 0] = torch.tensor([[0.1, 9, 9, 9], [0.3, 0.2, 9, 9]])
    hidden = image == 9

    _, (mean, share) = masked_pyramid(image, hidden)[:2]

    assert torch.allclose(mean, torch.tensor([[[[0.2, 0.5]]]]))
    assert torch.allclose(share, torch.tensor([[[[0.25, 1.0]]]]))


def test_learning_the_scale_costs_the_estimate_nothing() -> None:
    redacto = network()

    redacto(torch.rand(1, 3, 16, 16), holes(1, 16, 16)).log_scale.sum().backward()

    for name, parameter in redacto.named_parameters():
        if name.startswith("scale."):
            assert parameter.grad.abs().max() > 0
        else:
            assert parameter.grad is None or not parameter.grad.any(), name


def test_a_black_known_pixel_is_not_taken_for_hidden() -> None:
    images = torch.zeros(1, 3, 8, 8)
    hidden = torch.zeros(1, 1, 8, 8, dtype=torch.bool)

    with torch.inference_mode():
        assert torch.equal(network()(images, hidden).image, images)
