"""Losses against sums written out by hand."""

import math
from typing import get_args

import pytest
import torch

from redaction_core import losses
from redaction_core.training.recipe import Loss

ESTIMATE = torch.tensor([[[[0.0, 0.5], [1.0, 0.25]]]])
TARGET = torch.tensor([[[[0.5, 0.5], [0.0, 0.0]]]])


def test_plain_errors() -> None:
    assert losses.absolute(ESTIMATE, TARGET).flatten().tolist() == [0.5, 0, 1, 0.25]
    assert losses.squared(ESTIMATE, TARGET).flatten().tolist() == [0.25, 0, 1, 0.0625]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_published_laplacian_weights(channels: int) -> None:
    estimate, target = torch.rand(2, 2, channels, 6, 7)
    padded = torch.nn.functional.pad(target, (1, 1, 1, 1), mode="replicate")
    kernel = [[0.5, 1, 0.5], [1, -6, 1], [0.5, 1, 0.5]]
    total = 0.0
    for n in range(2):
        for c in range(channels):
            for y in range(6):
                for x in range(7):
                    detail = sum(
                        kernel[i][j] * float(padded[n, c, y + i, x + j])
                        for i in range(3)
                        for j in range(3)
                    )
                    error = abs(float(estimate[n, c, y, x] - target[n, c, y, x]))
                    total += error * math.log(2 + abs(detail))

    found = losses.laplacian(estimate, target)

    assert float(found.mean()) == pytest.approx(total / target.numel(), rel=1e-5)


def test_errors_of_flat_targets_weigh_log_2() -> None:
    flat = torch.full((1, 1, 4, 4), 0.7)

    found = losses.laplacian(flat + 0.1, flat)

    assert torch.allclose(found, torch.tensor(0.1 * math.log(2)), rtol=1e-4)


def test_means_are_taken_image_by_image() -> None:
    errors = torch.stack((torch.full((3, 4, 4), 0.5), torch.arange(48.0).view(3, 4, 4)))

    assert losses.mean_of(errors).tolist() == pytest.approx([0.5, 23.5])


def test_hidden_pixels_alone_count_image_by_image() -> None:
    errors = torch.ones(2, 3, 4, 4)
    weight = torch.zeros(2, 1, 4, 4)
    weight[0, 0, 0, 0] = 1
    weight[1, 0, 1, 1] = weight[1, 0, 2, 2] = 0.5
    errors[0, :, 0, 0] = torch.tensor([0.1, 0.2, 0.3])
    errors[1, :, 1, 1] = 0.25

    found = losses.mean_of(errors, weight)

    assert found.tolist() == pytest.approx([0.2, (0.25 + 1) / 2])


def test_nothing_hidden_is_no_error() -> None:
    assert losses.mean_of(torch.ones(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)).tolist() == [0]


def test_the_balanced_loss_falls_with_every_error() -> None:
    errors = torch.tensor([0.0, 1e-4, 0.02], requires_grad=True)

    found = losses.balanced(errors)
    found.sum().backward()

    assert errors.grad is not None
    assert bool((errors.grad > 0).all())
    expected = [100 * value + 0.3 * math.log(value + 1e-4) for value in errors.tolist()]
    assert found.tolist() == pytest.approx(expected)


def test_the_best_scale_is_the_error_itself() -> None:
    error = torch.tensor([0.02, 0.3], requires_grad=True)
    log_scale = error.detach().log().requires_grad_()

    losses.laplace_nll(error, log_scale).sum().backward()

    assert log_scale.grad is not None
    assert torch.allclose(log_scale.grad, torch.zeros(2), atol=1e-6)
    assert error.grad is None


def test_every_name_of_a_loss_has_its_errors() -> None:
    assert set(losses.ERRORS) == set(get_args(Loss))
    assert losses.ERRORS["mae"] is losses.absolute
    assert losses.ERRORS["mse"] is losses.ERRORS["balanced"] is losses.squared
    assert losses.ERRORS["laplacian"] is losses.laplacian
