"""What a training makes small: the losses of a batch, one a sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from redaction_core import losses
from redaction_core.models.redacto import halved
from redaction_core.redaction import Redaction, redact

_COARSE_WEIGHT = 0.25
_SCALE_WEIGHT = 0.01


def losses_of(
    network: nn.Module, images_u8: Tensor, how: Redaction, hidden: Tensor | None, *, loss: str
) -> Tensor:
    """Redact images, restore them, and compare: one loss a sample, (n,), differentiable.

    Its value is that of the images alone; its gradient moves the log-scale too.

    Args:
        network: of `models.BUILDERS`, perhaps wrapped; takes what the redaction leaves.
        images_u8: clean, uint8 (n, C, H, W), on the network's device.
        how: the redaction of all of them.
        hidden: where that hides pixels: bool (n, 1, H, W).
        loss: a key of `losses.ERRORS`.

    """
    target = images_u8.float() / 255
    if hidden is not None:
        # Gray is three equal colours.
        return _fill(network, target.expand(-1, 3, -1, -1), hidden, loss)
    redacted = redact(how, images_u8, ())
    estimate = network(redacted.images_u8.float() / 255, how)
    value = _value(losses.mean_of(losses.ERRORS[loss](estimate.image, target)), loss)
    if estimate.log_scale is not None:
        error = (estimate.image - target).abs()
        scale_loss = losses.mean_of(losses.laplace_nll(error, estimate.log_scale))
        value = value + _gradient_alone(_SCALE_WEIGHT * scale_loss)
    return value


def _fill(network: nn.Module, target: Tensor, hidden: Tensor, loss: str) -> Tensor:
    estimate = network(target, hidden)
    total, clean = target.new_zeros(len(target)), target
    needed = torch.ones_like(total)
    for image, share in ((estimate.image, hidden.float()), *estimate.coarser):
        errors = losses.mean_of(losses.ERRORS[loss](image, clean), share)
        total = total + needed * _value(errors, loss)
        # A scale counts for the images that it is needed for, not for others of their batch.
        needed = _COARSE_WEIGHT * (share == 1).flatten(1).any(1)
        clean = halved(clean)
    if estimate.log_scale is not None:
        error = (estimate.image - target).abs().mean(1, keepdim=True)
        nll = losses.laplace_nll(error, estimate.log_scale)
        total = total + _gradient_alone(_SCALE_WEIGHT * losses.mean_of(nll, hidden.float()))
    return total


def _value(errors: Tensor, loss: str) -> Tensor:
    return losses.balanced(errors) if loss == "balanced" else errors


def _gradient_alone(loss: Tensor) -> Tensor:
    """Give what learns as `loss` does, but is 0: no choice between models is to depend on it."""
    return loss - loss.detach()
