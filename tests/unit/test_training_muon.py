"""Steps of kernels: orthogonal, as long as told, and the same for any layout in memory."""

import pytest
import torch
from torch import Tensor

from redaction_core.training.muon import Muon, orthogonal


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(weight: Tensor, gradients: list[Tensor], rate: float = 1.0, decay: float = 0.0) -> Muon:
    weight.requires_grad_()
    muon = Muon([weight], weight_decay=decay)
    muon.param_groups[0]["lr"] = rate
    for gradient in gradients:
        weight.grad = gradient
        muon.step()
    return muon


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 1, 9), (4, 5, 5)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    found = orthogonal(normal(*shape) * 1e-3)

    values = torch.linalg.svdvals(found)
    assert found.shape == shape
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.25


def test_directions_stay_what_they_are() -> None:
    """Against the matrix's own singular vectors."""
    matrix = normal(6, 15)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)

    found = left.T @ orthogonal(matrix[None])[0] @ right.T

    assert torch.allclose(found, found.diag().diag(), atol=1e-4)
    assert bool((found.diag() > 0.6).all())


def test_nothing_comes_of_nothing() -> None:
    assert not orthogonal(torch.zeros(2, 3, 4)).any()


@pytest.mark.parametrize("shape", [(16, 4, 3, 3), (8, 64, 3, 3), (5, 40)])
def test_a_step_is_about_as_long_as_one_of_adamw(shape: tuple[int, ...]) -> None:
    weight = torch.zeros(shape)

    moved(weight, [normal(*shape)], rate=0.01)

    length = float(weight.detach().square().mean().sqrt())
    assert 0.1 * 0.01 < length < 0.3 * 0.01


def test_a_step_goes_against_the_gradient_and_on_with_the_one_before() -> None:
    first, second = normal(4, 4), normal(4, 4, seed=1)
    weight, twice = torch.zeros(4, 4), torch.zeros(4, 4)

    moved(weight, [first])
    moved(twice, [first, second])

    assert float((weight.detach() * first).sum()) < 0
    momentum = 0.95 * 0.05 * first + 0.05 * second
    expected = orthogonal((0.05 * second + 0.95 * momentum)[None])[0] * 0.2 * 2
    assert torch.allclose(twice - weight, -expected, atol=1e-5)


def test_decay_pulls_towards_zero() -> None:
    weight = torch.ones(3, 3)

    moved(weight, [torch.zeros(3, 3)], rate=0.1, decay=0.5)

    assert torch.allclose(weight, torch.full((3, 3), 0.95))


def test_weights_without_a_gradient_stay() -> None:
    used, unused = torch.zeros(3, 3, requires_grad=True), torch.ones(3, 3, requires_grad=True)
    muon = Muon([used, unused], weight_decay=0.5)
    muon.param_groups[0]["lr"] = 0.1
    used.grad = normal(3, 3)

    muon.step()

    assert bool(used.any())
    assert torch.equal(unused, torch.ones(3, 3))


def test_kernels_of_one_size_move_as_each_would_alone() -> None:
    weights = [torch.zeros(4, 2, 3, 3, requires_grad=True) for _ in range(3)]
    gradients = [normal(4, 2, 3, 3, seed=seed) for seed in range(3)]
    muon = Muon(weights, weight_decay=0.0)
    muon.param_groups[0]["lr"] = 1.0
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    muon.step()

    for weight, gradient in zip(weights, gradients, strict=True):
        alone = torch.zeros(4, 2, 3, 3)
        moved(alone, [gradient])
        assert torch.allclose(weight, alone, atol=1e-5)


def test_layout_in_memory_changes_nothing() -> None:
    gradient = normal(4, 6, 3, 3)
    plain = torch.zeros(4, 6, 3, 3)
    last = torch.zeros(4, 6, 3, 3).to(memory_format=torch.channels_last)

    moved(plain, [gradient])
    moved(last, [gradient.to(memory_format=torch.channels_last)])

    assert torch.equal(plain, last)
    assert last.is_contiguous(memory_format=torch.channels_last)
