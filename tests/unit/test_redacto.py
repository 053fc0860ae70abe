"""Redacto: what it may touch, what it may see, and at which sizes."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from redaction_core.models.redacto import Redacto, masked_pyramid
from tests.unit.networks import holes, wild

SIZES = [(1, 2), (2, 1), (5, 4), (16, 16), (33, 21)]


def network(**architecture: int) -> Redacto:
    redacto = Redacto(**({"width": 8, "blocks": 2} | architecture))
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
    """Each convolution up to the last gives something else when its mask channel is turned."""
    redacto = network()
    images, hidden = torch.rand(1, 3, 16, 16), holes(1, 16, 16)
    shares = [share for _, share in masked_pyramid(images, hidden)]
    seen: dict[str, list[Tensor]] = {}
    for name, layer in redacto.named_modules():
        if isinstance(layer, nn.Conv2d) and name not in ("enter", "scale"):
            layer.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0][:, -1:])
            )

    with torch.inference_mode():
        redacto(images, hidden)

    assert sorted(seen) == ["first.0", "first.1", "leave", "second.0", "second.1"]
    for masks in seen.values():
        assert all(map(torch.equal, masks[::-1], shares))


def test_the_first_layer_gets_the_mask_too() -> None:
    redacto = network()
    images, hidden = torch.rand(1, 3, 16, 16), holes(1, 16, 16)
    given: list[Tensor] = []
    redacto.enter.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0][:, 3:4]))

    with torch.inference_mode():
        redacto(images, hidden)

    shares = [share for _, share in masked_pyramid(images, hidden)]
    assert len(given) == len(shares)
    assert all(map(torch.equal, given[::-1], shares))


def test_it_sees_across_a_large_hole() -> None:
    """The middle of a hole far wider than the convolutions reach depends on what is around it."""
    redacto = network(blocks=1)
    hidden = torch.zeros(1, 1, 96, 96, dtype=torch.bool)
    hidden[..., 8:88, 8:88] = True
    dark = torch.zeros(1, 3, 96, 96)

    with torch.inference_mode():
        one, other = redacto(dark, hidden).image, redacto(dark + 0.8, hidden).image

    assert redacto.reach < 40
    assert (one - other)[..., 40:56, 40:56].abs().min() > 0


@pytest.mark.parametrize("size", [(150, 141), (300, 20), (129, 400)])
def test_a_large_image_in_pieces_equals_the_whole(size: tuple[int, int]) -> None:
    redacto = network(blocks=1)
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
    redacto.enter.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))

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
