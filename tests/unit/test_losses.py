"""Losses against sums written out by hand."""

import math

import pytest
import torch

from redaction_core import losses

ESTIMATE = torch.tensor([[[[0.0, 0.5], [1.0, 0.25]]]])
TARGET = torch.tensor([[[[0.5, 0.5], [0.0, 0.0]]]])


def test_plain_errors() -> None:
    assert float(losses.mae(ESTIMATE, TARGET)) == pytest.approx((0.5 + 0 + 1 + 0.25) / 4)
    assert float(losses.mse(ESTIMATE, TARGET)) == pytest.approx((0.25 + 0 + 1 + 0.0625) / 4)


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

    assert float(found) == pytest.approx(total / target.numel(), rel=1e-5)


def test_errors_of_flat_targets_weigh_log_2() -> None:
    flat = torch.full((1, 1, 4, 4), 0.7)

    found = losses.laplacian(flat + 0.1, flat)

    assert float(found) == pytest.approx(0.1 * math.log(2), rel=1e-4)


def test_hidden_pixels_alone_count_image_by_image() -> None:
    estimate, target = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    weight = torch.zeros(2, 1, 4, 4)
    weight[0, 0, 0, 0] = 1
    weight[1, 0, 1, 1] = weight[1, 0, 2, 2] = 0.5
    target[0, :, 0, 0] = torch.tensor([0.1, 0.2, 0.3])
    target[1, :, 1, 1] = 0.5

    found = losses.hidden_mse(estimate, target, weight)

    assert found.tolist() == pytest.approx([(0.01 + 0.04 + 0.09) / 3, (0.25 + 1) / 2])


def test_nothing_hidden_is_no_error() -> None:
    images = torch.rand(1, 3, 4, 4)

    assert losses.hidden_mse(images, images + 1, torch.zeros(1, 1, 4, 4)).tolist() == [0]


def test_the_hole_loss_falls_with_every_error() -> None:
    errors = torch.tensor([0.0, 1e-4, 0.02], requires_grad=True)

    losses.hole_loss(errors).backward()

    assert errors.grad is not None
    assert bool((errors.grad > 0).all())
    values = errors.tolist()
    expected = 100 * sum(values) / 3 + 0.3 * sum(math.log(value + 1e-4) for value in values) / 3
    assert float(losses.hole_loss(errors).detach()) == pytest.approx(expected)


def test_the_best_scale_is_the_error_itself() -> None:
    error = torch.tensor([0.02, 0.3], requires_grad=True)
    log_scale = error.detach().log().requires_grad_()

    losses.laplace_nll(error, log_scale).backward()

    assert log_scale.grad is not None
    assert torch.allclose(log_scale.grad, torch.zeros(2), atol=1e-6)
    assert error.grad is None


def test_the_names_of_the_losses() -> None:
    named = {"mae": losses.mae, "mse": losses.mse, "laplacian": losses.laplacian}
    assert named == losses.LOSSES
