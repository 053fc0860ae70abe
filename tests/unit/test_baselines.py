"""The published networks, layer by layer."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redaction_core.models.baselines import EnhancerBaseline, RedactoBaseline
from redaction_core.redaction import Pixelate
from tests.unit.networks import holes, noise, wild

HOW = Pixelate(block=4)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def channels(network: nn.Module) -> list[tuple[int, int]]:
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.kernel_size == (3, 3) for layer in convolutions)
    return [(layer.in_channels, layer.out_channels) for layer in convolutions]


def test_the_enhancer_has_the_published_layers() -> None:
    network = EnhancerBaseline()

    widths = [1, 256, 256, 512, 512, 256, 1]
    assert channels(network) == list(itertools.pairwise(widths))
    # 3x3 weights of each pair of widths, and a bias an output.
    assert parameters(network) == 5_314_817


def test_redacto_has_the_published_layers() -> None:
    network = RedactoBaseline()

    assert channels(network) == [(4, 7), (8, 5), (6, 3)]
    assert parameters(network) == 4 * 7 * 9 + 7 + 8 * 5 * 9 + 5 + 6 * 3 * 9 + 3


def test_redacto_may_have_the_mask_at_its_input_alone() -> None:
    network = wild(RedactoBaseline(mask_everywhere=0))
    given: list[Tensor] = []
    for layer in (network.first, network.second, network.last):
        layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    images, hidden = torch.rand(1, 3, 8, 8), holes(1, 8, 8)

    with torch.inference_mode():
        network(images, hidden)

    assert channels(network) == [(4, 8), (8, 6), (6, 3)]
    assert torch.equal(given[0][:, 3:], hidden.float())
    assert not any(torch.equal(x[:, -1:], hidden.float()) for x in given[1:])


def test_the_enhancer_computes_what_was_published() -> None:
    network = wild(EnhancerBaseline())
    one, two, three, four, five, six = (
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d)
    )
    published = nn.Sequential(
        *(one, nn.ReLU(), nn.MaxPool2d(2), two, nn.ReLU(), nn.MaxPool2d(2)),
        *(three, nn.ReLU(), four, nn.ReLU(), nn.Upsample(scale_factor=2, mode="nearest")),
        *(five, nn.ReLU(), nn.Upsample(scale_factor=2, mode="nearest"), six, nn.Sigmoid()),
    )
    image = torch.rand(1, 1, 24, 32)

    with torch.inference_mode():
        assert torch.equal(network(image, HOW).image, published(image))


def test_redacto_computes_what_was_published() -> None:
    network = wild(RedactoBaseline())
    first, second, last = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    image, hidden = noise(2, 3, 9, 12).float() / 255, holes(2, 9, 12)
    mask = hidden.float()
    x = torch.where(hidden, 0.5, image)

    with torch.inference_mode():
        x = F.relu(first(torch.cat((x, mask), 1)))
        x = F.relu(second(torch.cat((x, mask), 1)))
        published = last(torch.cat((x, mask), 1))
        found = network(image, hidden).image

    assert torch.equal(found, torch.where(hidden, published, image))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 2), (5, 7), (10, 9)])
def test_any_size_comes_back(size: tuple[int, int]) -> None:
    image = torch.rand(2, 1, *size)

    with torch.inference_mode():
        estimate = wild(EnhancerBaseline())(image, HOW).image

    assert estimate.shape == image.shape
    assert estimate.dtype == torch.float32
    assert bool(((estimate >= 0) & (estimate <= 1)).all())


@pytest.mark.parametrize("size", [(1, 2), (4, 4), (7, 13)])
def test_known_pixels_come_back_and_hidden_ones_are_not_looked_at(size: tuple[int, int]) -> None:
    network = wild(RedactoBaseline())
    image: Tensor = torch.rand(2, 3, *size)
    hidden = holes(2, *size)

    with torch.inference_mode():
        estimate = network(image, hidden).image
        other = network(torch.where(hidden, torch.rand_like(image), image), hidden).image

    assert torch.equal(torch.where(hidden, 0, estimate), torch.where(hidden, 0, image))
    assert torch.equal(estimate, other)
