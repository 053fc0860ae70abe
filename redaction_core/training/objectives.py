"""What a training makes small: the losses of a batch, one a sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from redaction_core import losses
from redaction_core.models import Estimate
from redaction_core.models.redacto import halved
from redaction_core.redaction import Redaction, redact

_COARSE_WEIGHT = 0.25
_SCALE_WEIGHT = 0.01


def losses_of(  # noqa: PLR0913 - the last two by name
    network: nn.Module,
    images_u8: Tensor,
    how: Redaction,
    hidden: Tensor | None,
    *,
    loss: str,
    learn: str = "all",
) -> Tensor:
    """Redact images, restore them, and compare: one loss a sample, (n,), differentiable.

    Args:
        network: of `models.BUILDERS`, perhaps wrapped; takes what the redaction leaves.
        images_u8: clean, uint8 (n, C, H, W), on the network's device.
        how: the redaction of all of them.
        hidden: where that hides pixels: bool (n, 1, H, W).
        loss: a key of `losses.ERRORS`.
        learn: "all": the value is that of the images alone, the gradient moves the log-scale too;
            "scale": the negative log-likelihood of the errors, with a gradient for nothing else.

    """
    target = images_u8.float() / 255
    if hidden is None:
        redacted = redact(how, images_u8, ())
        estimate = network(redacted.images_u8.float() / 255, how)
        scale_loss = _of_scale(estimate, target, None)
    else:
        # Gray is three equal colours.
        target = target.expand(-1, 3, -1, -1)
        estimate = network(target, hidden)
        scale_loss = _of_scale(estimate, target, hidden.float())
    if learn == "scale" and scale_loss is not None:
        return scale_loss
    if hidden is None:
        value = _value(losses.mean_of(losses.ERRORS[loss](estimate.image, target)), loss)
    else:
        value = _of_holes(estimate, target, hidden, loss)
    if scale_loss is not None:
        value = value + _gradient_alone(_SCALE_WEIGHT * scale_loss)
    return value


def _of_holes(estimate: Estimate, target: Tensor, hidden: Tensor, loss: str) -> Tensor:
    total, clean = target.new_zeros(len(target)), target
    needed = torch.ones_like(total)
    for image, share in ((estimate.image, hidden.float()), *estimate.coarser):
        errors = losses.mean_of(losses.ERRORS[loss](image, clean), share)
        total = total + needed * _value(errors, loss)
        # A scale counts for the images that it is needed for, not for others of their batch.
        needed = _COARSE_WEIGHT * (share == 1).flatten(1).any(1)
        clean = halved(clean)
    return total


def _of_scale(estimate: Estimate, target: Tensor, share: Tensor | None) -> Tensor | None:
    if estimate.log_scale is None:
        return None
    # Of what is written: its rounding is most of a small error.
    written = (estimate.image.detach() * 255).round().clamp(0, 255) / 255
    error = (written - target).abs().mean(1, keepdim=True)
    return losses.mean_of(losses.laplace_nll(error, estimate.log_scale), share)


def _value(errors: Tensor, loss: str) -> Tensor:
    return losses.balanced(errors) if loss == "balanced" else errors


def _gradient_alone(loss: Tensor) -> Tensor:
    """Give what learns as `loss` does, but is 0: no choice between models is to depend on it."""
    return loss - loss.detach()
