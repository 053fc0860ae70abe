"""Training without an engine: steps, means, and what is left alone."""

import copy
import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from redaction_core import losses
from redaction_core.models import FILLS_HOLES
from redaction_core.redaction import Pixelate
from redaction_core.training import Optimisation, Trainer, enhance_objective, fill_objective
from tests.unit.networks import holes, small


class Scalar(nn.Module):
    """One weight; its gradient is whatever it is multiplied with."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))


def steady(**changes: float) -> Optimisation:
    return Optimisation(**({"warmup": 0.0} | changes))


def stripes(n: int, channels: int, side: int) -> Tensor:
    x = torch.arange(side) * 40 % 256
    return x.to(torch.uint8).expand(n, channels, side, side).contiguous()


def objective_of(name: str, network: nn.Module) -> Callable[[], Tensor]:
    if name in FILLS_HOLES:
        return functools.partial(fill_objective, network, stripes(2, 3, 16), holes(2, 16, 16))
    return functools.partial(enhance_objective, network, stripes(2, 1, 16), Pixelate(block=4))


@pytest.mark.parametrize("name", ["enhancer", "redacto", "redacto-baseline"])
def test_steps_lower_the_loss_of_one_batch(name: str) -> None:
    torch.manual_seed(0)
    network = small(name).train()
    trainer = Trainer(network, steady(learning_rate=3e-3))
    objective = objective_of(name, network)

    values = [trainer.step(objective, 0.0) for _ in range(30)]

    assert values[-1] < 0.9 * values[0]
    assert trainer.steps == 30


@pytest.mark.parametrize("name", ["enhancer", "redacto"])
def test_the_scale_slows_nothing_else_down(name: str) -> None:
    """A step moves the estimate's weights just as far, however steep the scale."""
    moved = []
    for factor in (1.0, 1e6):
        network = small(name).train()
        trainer = Trainer(network, steady())
        # Plain descent, as the steps of AdamW do not tell how long the gradient was.
        trainer.optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)  # type: ignore[assignment]  # any optimiser has a step
        hook = functools.partial(torch.mul, other=factor)

        for parameter in network.scale.parameters():
            parameter.register_hook(hook)
        trainer.step(objective_of(name, network), 0.5)
        moved.append([p.detach() for n, p in network.named_parameters() if "scale." not in n])

    assert all(map(torch.equal, *moved))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weight: weight.sum() * math.nan,
        lambda weight: weight.sum() * math.inf,
        lambda weight: weight.sum() + math.inf,
        lambda weight: (weight - 1).abs().sqrt().sum(),
    ],
    ids=["nan", "infinite", "infinite loss, finite gradient", "finite loss, infinite gradient"],
)
def test_what_is_not_finite_leaves_everything_as_it_is(spoil: Callable[[Tensor], Tensor]) -> None:
    network = Scalar()
    trainer = Trainer(network, steady())
    state = copy.deepcopy(trainer.optimiser.state_dict()["state"])

    trainer.step(lambda: spoil(network.weight), 0.5)

    assert network.weight.tolist() == [1.0]
    assert trainer.average.weight.tolist() == [1.0]
    assert trainer.optimiser.state_dict()["state"] == state
    assert trainer.steps == 0
    trainer.step(network.weight.sum, 0.5)
    assert network.weight.item() < 1.0


def test_the_mean_follows_the_weights_with_a_growing_memory() -> None:
    network = Scalar()
    trainer = Trainer(network, steady(learning_rate=0.1, ema_decay=0.3))
    mean = 1.0
    for step in range(1, 8):
        trainer.step(network.weight.sum, 0.0)
        decay = min(0.3, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * network.weight.item()
        assert trainer.average.weight.item() == pytest.approx(mean, rel=1e-5)
    assert not trainer.average.weight.requires_grad
    assert network.weight.item() < mean < 1


def test_gradients_are_clipped() -> None:
    network = Scalar()
    trainer = Trainer(network, steady(clip_norm=0.5))

    trainer.step(lambda: 1000 * network.weight.sum(), 0.0)

    assert network.weight.grad is not None
    assert abs(network.weight.grad.item()) == pytest.approx(0.5, rel=1e-4)


def test_the_rate_rises_then_falls() -> None:
    optimisation = Optimisation(learning_rate=0.01, warmup=0.1)

    rates = [optimisation.rate(progress / 100) for progress in range(101)]

    assert rates[0] == 0
    assert rates.index(max(rates)) == 10
    assert rates[5] == pytest.approx(0.005, rel=0.02)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4)
    assert optimisation.rate(2.0) == rates[-1]
    assert max(rates) <= 0.01


def test_the_rate_reaches_the_optimiser() -> None:
    network = Scalar()
    trainer = Trainer(network, Optimisation(learning_rate=0.01, warmup=0.5))

    trainer.step(network.weight.sum, 0.25)

    # The first step of Adam is as long as the rate.
    assert 1 - network.weight.item() == pytest.approx(trainer.optimisation.rate(0.25), rel=0.05)


def test_an_epoch_gives_the_mean_loss() -> None:
    network = Scalar(3.0)
    trainer = Trainer(network, steady(learning_rate=0.0))

    assert trainer.epoch([]) == 0
    both = [(network.weight.sum, 0.0), (lambda: 3 * network.weight.sum(), 0.5)]
    assert trainer.epoch(both) == pytest.approx(6.0, rel=0.01)
    assert trainer.steps == 2


@pytest.mark.parametrize("loss", losses.LOSSES.values(), ids=losses.LOSSES)
def test_the_loss_of_undoing_is_the_one_asked_for(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    network = small("enhancer-baseline")
    images, how = stripes(1, 1, 12), Pixelate(block=3, nearest=True)
    seen = images[..., 1::3, 1::3].repeat_interleave(3, -1).repeat_interleave(3, -2)

    with torch.no_grad():
        found = enhance_objective(network, images, how, loss)
        expected = loss(network(seen.float() / 255, how).image, images.float() / 255)

    assert torch.equal(found, expected)


def test_known_pixels_are_no_part_of_the_loss_of_filling() -> None:
    network = small("redacto-baseline")
    images, hidden = stripes(2, 3, 8), holes(2, 8, 8)

    with torch.no_grad():
        found = fill_objective(network, images, hidden)
        target = images.float() / 255
        squared = (network(target, hidden).image - target).square().sum(1, keepdim=True)
        expected = [squared[i][hidden[i]].mean() / 3 for i in range(2)]

    assert float(found) == pytest.approx(float(sum(expected) / 2), rel=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (9, 13)])
def test_filling_learns_at_every_scale(size: tuple[int, int]) -> None:
    """The error of a perfect finest scale alone is not the whole loss."""
    network = small("redacto").train()
    images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    hidden = torch.zeros(1, 1, *size, dtype=torch.bool)
    hidden[..., 2:8, 2:8] = True
    target = images.float() / 255
    estimates = network.pyramid(target, hidden)

    value = fill_objective(network, images, hidden)
    finest = losses.hole_loss(losses.hidden_mse(estimates[0].image, target, hidden.float()))
    error = (estimates[0].image - target).abs().mean(1, keepdim=True)[hidden]
    scale = 0.01 * losses.laplace_nll(error, estimates[0].log_scale[hidden])

    assert len(estimates) >= 3
    coarse = value - finest - scale
    assert float(coarse.detach()) != pytest.approx(0, abs=1e-3)
