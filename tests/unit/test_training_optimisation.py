"""One step: what moves weights, means and moments, and what leaves them as they are."""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from redaction_core.models import FILLS_HOLES
from redaction_core.redaction import Box, Pixelate, redact
from redaction_core.training.objectives import losses_of
from redaction_core.training.optimisation import Optimisation, Trainer, tally
from redaction_core.training.recipe import Optimiser
from tests.unit.networks import small

NETWORKS = ("enhancer", "redacto", "enhancer-baseline", "redacto-baseline")


class Scalar(nn.Module):
    """One weight; its gradient is whatever it is multiplied with."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))

    def times(self, *factors: float) -> Tensor:
        return self.weight * torch.tensor(factors)


def steady(**changes: Any) -> Optimisation:  # noqa: ANN401 - any field
    return Optimisation(**({"warmup": 0.0, "mixed": False} | changes))


def stripes(n: int, channels: int, side: int) -> Tensor:
    x = torch.arange(side) * 40 % 256
    return x.to(torch.uint8).expand(n, channels, side, side).contiguous()


def objective_of(name: str, network: nn.Module, n: int = 2) -> Callable[[], Tensor]:
    fills = name in FILLS_HOLES
    how = Box(width=6, height=6) if fills else Pixelate(block=4)
    images = stripes(n, 3 if fills else 1, 16)
    hidden = redact(how, images, ["a"] * n).hidden
    return functools.partial(losses_of, network, images, how, hidden, loss="mae")


@pytest.mark.parametrize("name", ["enhancer", "redacto", "redacto-baseline"])
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed"])
def test_steps_lower_the_loss_of_one_batch(name: str, mixed: bool) -> None:  # noqa: FBT001 - pytest's
    torch.manual_seed(0)
    network = small(name).train()
    trainer = Trainer(network, steady(learning_rate=3e-3, mixed=mixed))
    objective = objective_of(name, network)

    values = []
    for _ in range(30):
        trainer.step(objective, 0.0)
        values.append(tally(trainer.take_sums()).loss)

    assert values[-1] < values[0] - 0.1 * abs(values[0])
    assert trainer.steps == 30


@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_of_its_tensors_goes_on_with_the_same_bits(name: str) -> None:
    def trained(trainer: Trainer, steps: int) -> dict[str, Tensor]:
        for _ in range(steps):
            trainer.step(objective_of(name, trainer.network), 0.3)
        return trainer.tensors()

    def built() -> Trainer:
        network = small(name).train().to(memory_format=torch.channels_last)
        return Trainer(network, steady())

    whole = trained(built(), 5)
    first, second = built(), built()
    middle = trained(first, 2)
    with torch.no_grad():
        for weight in second.network.parameters():
            weight.zero_()  # nothing is left of what it was
    second.load(middle, 2)
    trained(first, 1)  # which leaves the copy alone

    found = trained(second, 3)

    assert second.steps == 5
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[key], whole[key]) for key in whole)
    assert {key.partition(".")[0] for key in whole} == {
        *("model", "average", "momentum", "step", "exp_avg", "exp_avg_sq")
    }
    assert all(value.dtype == torch.float32 for value in whole.values())


def test_tensors_of_another_network_are_refused() -> None:
    tensors = Trainer(small("redacto-baseline"), steady()).tensors()

    with pytest.raises(RuntimeError):
        Trainer(small("enhancer"), steady()).load(tensors, 1)


@pytest.mark.parametrize("name", ["enhancer", "redacto"])
def test_the_scale_slows_nothing_else_down(name: str) -> None:
    """A step moves the estimate's weights just as far, however steep the scale."""
    moved = []
    for factor in (1.0, 1e6):
        network = small(name).train()
        trainer = Trainer(network, steady())
        # Plain descent, as the steps of AdamW do not tell how long the gradient was.
        trainer.optimisers = [torch.optim.SGD(network.parameters(), lr=1e-3, fused=True)]
        hook = functools.partial(torch.mul, other=factor)

        for parameter in network.scale.parameters():
            parameter.register_hook(hook)
        trainer.step(objective_of(name, network), 0.5)
        moved.append([p.detach() for n, p in network.named_parameters() if "scale." not in n])

    assert all(map(torch.equal, *moved))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weight: weight * math.nan,
        lambda weight: weight * math.inf,
        lambda weight: weight + math.inf,
        lambda weight: (weight - 1).abs().sqrt(),
        lambda weight: torch.cat((weight, weight * math.nan)),
    ],
    ids=["nan", "infinite", "infinite loss, finite gradient", "the reverse", "one sample of two"],
)
def test_what_is_not_finite_leaves_everything_as_it_is(spoil: Callable[[Tensor], Tensor]) -> None:
    network = Scalar()
    trainer = Trainer(network, steady())
    trainer.step(lambda: network.times(1.0), 0.5)
    trainer.take_sums()
    with torch.no_grad():
        network.weight.fill_(1.0)
        trainer.average.weight.fill_(1.0)  # type: ignore[operator, union-attr]  # a tensor
    before = copy.deepcopy(trainer.tensors())

    trainer.step(lambda: spoil(network.weight), 0.5)

    after = trainer.tensors()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert tally(trainer.take_sums()).skipped == 1
    trainer.step(lambda: network.times(1.0), 0.5)
    assert network.weight.item() < 1.0
    assert tally(trainer.take_sums()).skipped == 0


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_a_network_is_left_whole_by_what_is_not_finite(optimiser: Optimiser) -> None:
    network = small("enhancer").train()
    trainer = Trainer(network, steady(optimiser=optimiser))
    objective = objective_of("enhancer", network)
    trainer.step(objective, 0.5)
    before = copy.deepcopy(trainer.tensors())

    trainer.step(lambda: objective() * math.nan, 0.5)

    after = trainer.tensors()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert not {key for key in changed if not key.startswith("average.")}
    trainer.step(objective, 0.5)
    assert tally(trainer.take_sums()).skipped == 1
    now = trainer.tensors()
    assert any(not torch.equal(now[key], after[key]) for key in now if key.startswith("model."))


def test_adamw_moves_all_weights_where_it_is_asked_for() -> None:
    network = small("enhancer").train()
    trainer = Trainer(network, steady(optimiser="adamw"))

    trainer.step(objective_of("enhancer", network), 0.5)

    assert not any(key.startswith("momentum.") for key in trainer.tensors())


def test_the_mean_follows_the_weights_with_a_growing_memory() -> None:
    network = Scalar()
    trainer = Trainer(network, steady(learning_rate=0.1, ema_decay=0.3))
    mean = 1.0
    for step in range(1, 8):
        trainer.step(lambda: network.times(1.0), 0.0)
        decay = min(0.3, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * network.weight.item()
        assert trainer.average.weight.item() == pytest.approx(mean, rel=1e-5)  # type: ignore[operator, union-attr]  # a tensor
    assert not any(weight.requires_grad for weight in trainer.average.parameters())
    assert network.weight.item() < mean < 1


def test_buffers_of_the_mean_are_those_of_the_network() -> None:
    network = Scalar()
    network.register_buffer("seen", torch.zeros(1))
    trainer = Trainer(network, steady())

    network.get_buffer("seen").add_(3)
    trainer.step(lambda: network.times(1.0), 0.0)

    assert trainer.average.get_buffer("seen").item() == 3


def test_gradients_are_clipped() -> None:
    network = Scalar()
    trainer = Trainer(network, steady(clip_norm=0.5))

    trainer.step(lambda: network.times(1000.0), 0.0)

    assert network.weight.grad is not None
    assert abs(network.weight.grad.item()) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("shares", [((1.0, 2.0), (6.0,)), ((1.0, 2.0, 6.0), ())])
def test_uneven_shares_average_to_the_mean_over_all_samples(
    shares: tuple[tuple[float, ...], ...],
) -> None:
    """What averaging gradients over workers makes of their shares."""
    gradients, losses, samples = [], 0.0, 0.0
    for share in shares:
        network = Scalar()
        trainer = Trainer(network, steady(clip_norm=100.0))
        losses_of_share = functools.partial(network.times, *(share or (9.0,)))
        trainer.step(losses_of_share, 0.0, total=3, world=2, counted=bool(share))
        assert network.weight.grad is not None
        gradients.append(network.weight.grad.item())
        found = tally(trainer.take_sums())
        losses, samples = losses + found.loss, samples + found.samples

    assert sum(gradients) / 2 == pytest.approx((1 + 2 + 6) / 3)
    assert (losses, samples) == (9.0, 3.0)


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


def test_the_rate_and_the_decay_reach_the_optimiser() -> None:
    network = Scalar()
    trainer = Trainer(
        network, Optimisation(learning_rate=0.01, warmup=0.5, weight_decay=0.2, mixed=False)
    )

    trainer.step(lambda: network.times(1.0), 0.25)

    # The first step of Adam is as long as the rate; the decay comes on top.
    rate = trainer.optimisation.rate(0.25)
    assert 1 - network.weight.item() == pytest.approx(rate * 1.2, rel=0.01)
