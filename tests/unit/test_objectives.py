"""What a training makes small, against sums written out by hand."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from redaction_core import losses
from redaction_core.models.redacto import masked_pyramid
from redaction_core.redaction import Blur, Pixelate, Redaction, parse, redact
from redaction_core.training.objectives import losses_of
from tests.unit.networks import noise, small

HOWS = {
    "enhancer": ("pixelate:4", "pixelate:3:nearest", "blur:1.5"),
    "enhancer-baseline": ("pixelate:4",),
    "redacto": ("box:5x7@random", "freeform:0.3@random", "pixels:0.4@random"),
    "redacto-baseline": ("box:4x4@center",),
}
CASES = [(name, parse(text)) for name, texts in HOWS.items() for text in texts]
KEYS = ("a", "b", "c")


def hidden_in(images: Tensor, how: Redaction, keys: Sequence[str] = KEYS) -> Tensor | None:
    return redact(how, images, keys[: len(images)]).hidden


def images_for(how: Redaction, n: int = 3) -> Tensor:
    return noise(n, 1 if isinstance(how, Pixelate | Blur) else 3, 21, 21)


@pytest.mark.parametrize(("name", "how"), CASES, ids=str)
@pytest.mark.parametrize("loss", losses.ERRORS)
def test_a_loss_is_the_same_alone_and_in_a_batch(name: str, how: Redaction, loss: str) -> None:
    """So batches may be cut up between workers."""
    network, images = small(name).train(), images_for(how)

    with torch.no_grad():
        hidden = hidden_in(images, how)
        together = losses_of(network, images, how, hidden, loss=loss)
        alone = [
            losses_of(
                network,
                images[i : i + 1],
                how,
                hidden if hidden is None else hidden[i : i + 1],
                loss=loss,
            )
            for i in range(3)
        ]

    assert together.shape == (3,)
    assert torch.allclose(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["mae", "mse", "laplacian"])
def test_the_loss_of_undoing_is_the_one_asked_for(loss: str) -> None:
    network = small("enhancer-baseline")
    how = Pixelate(block=3, nearest=True)
    images = images_for(how)

    with torch.no_grad():
        found = losses_of(network, images, how, None, loss=loss)
        seen = redact(how, images, KEYS).images_u8.float() / 255
        errors = losses.ERRORS[loss](network(seen, how).image, images.float() / 255)

    assert torch.equal(found, errors.flatten(1).mean(1))


def test_known_pixels_are_no_part_of_the_loss_of_filling() -> None:
    network = small("redacto-baseline")
    how = parse("box:4x4@center")
    images = images_for(how)
    hidden = hidden_in(images, how)
    target = images.float() / 255

    with torch.no_grad():
        found = losses_of(network, images, how, hidden, loss="mse")
        squared = (network(target, hidden).image - target).square().mean(1, keepdim=True)

    expected = [float(squared[i][hidden[i]].mean()) for i in range(3)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_filling_learns_at_every_scale_that_is_needed() -> None:
    """Written out: the finest scale, and a quarter of each coarser one."""
    network = small("redacto").train()
    how = parse("box:6x6@center")
    images = images_for(how, 1)
    target, hidden = images.float() / 255, hidden_in(images, how)
    estimate = network(target, hidden)

    found = losses_of(network, images, how, hidden, loss="mse")

    scales = masked_pyramid(target, hidden)
    assert len(scales) == len(estimate.coarser) + 1 >= 3
    finest = (estimate.image - target).square().mean(1, keepdim=True)[hidden].mean()
    expected = finest
    clean = torch.nn.functional.pad(target, (0, 1, 0, 1), mode="replicate")
    for (image, _), (_, share) in zip(estimate.coarser, scales[1:], strict=True):
        clean = torch.nn.functional.avg_pool2d(clean, 2)
        expected = expected + 0.25 * losses.mean_of((image - clean).square(), share)[0]
        clean = torch.nn.functional.pad(clean, [0, clean.shape[-1] % 2] * 2, mode="replicate")
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize(("name", "text"), [("enhancer", "blur:2"), ("redacto", "box:0.1@random")])
def test_the_log_scale_learns_and_is_no_part_of_the_value(name: str, text: str) -> None:
    network, how = small(name).train(), parse(text)
    images = images_for(how)
    hidden = hidden_in(images, how)
    before = losses_of(network, images, how, hidden, loss="mae")
    before.sum().backward()
    gradients = [weight.grad for weight in network.scale.parameters() if weight.grad is not None]

    with torch.no_grad():
        for weight in network.scale.parameters():
            weight.add_(1.0)
    after = losses_of(network, images, how, hidden, loss="mae")

    assert any(bool(gradient.any()) for gradient in gradients)
    assert torch.equal(before, after)


@pytest.mark.parametrize(("name", "how"), CASES, ids=str)
def test_every_weight_that_is_used_learns(name: str, how: Redaction) -> None:
    network, images = small(name).train(), images_for(how)

    losses_of(network, images, how, hidden_in(images, how), loss="mae").sum().backward()

    idle = "mosaic" if isinstance(how, Blur) else "blur"
    for weight_name, weight in network.named_parameters():
        unused = idle in weight_name or ("blend" in weight_name and isinstance(how, Pixelate))
        assert (weight.grad is None) == (unused and name == "enhancer"), weight_name


@pytest.mark.parametrize("how", [Pixelate(block=11), Blur(sigma=1.25)], ids=str)
def test_learning_goes_on_after_a_look_without_learning(how: Redaction) -> None:
    """What is kept between calls may be made while no gradients are wanted."""
    network, images = small("enhancer").train(), noise(1, 1, 29, 29)

    with torch.inference_mode():
        network(images.float() / 255, how)
    losses_of(network, images, how, None, loss="mae").sum().backward()
