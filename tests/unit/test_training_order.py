"""The order of samples: each as often as asked, seekable, the same for any number of workers."""

from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest

from redaction_core.training.order import Order, Plan, slice_of

PARTS = [(7,), (5, 5, 5), (0, 9, 1, 0, 30), tuple([10] * 40), tuple(range(25))]


@pytest.mark.parametrize(
    ("parts", "batch_size", "repeats", "window"),
    list(product(PARTS, (1, 4, 16, 1000), (1, 3), (1, 2, 16))),
)
def test_every_sample_comes_as_often_as_asked(
    parts: tuple[int, ...], batch_size: int, repeats: int, window: int
) -> None:
    order = Order(part_rows=parts, batch_size=batch_size, repeats=repeats, window=window, seed=5)
    epoch = order.epoch(2)
    rows = [epoch.rows(batch) for batch in range(order.batches)]
    assert {len(some) for some in rows[:-1]} <= {batch_size}
    assert 0 < len(rows[-1]) <= batch_size
    seen = Counter(
        (int(position), int(repeat))
        for batch, some in enumerate(rows)
        for position, repeat in zip(some, epoch.repeats(batch), strict=True)
    )
    assert seen == Counter(product(range(sum(parts)), range(repeats)))


@pytest.mark.parametrize("window", [1, 2, 4, 16, 100])
def test_parts_that_take_turns_are_no_more_than_the_window(window: int) -> None:
    parts = tuple([50] * 60)
    positions = Order(part_rows=parts, batch_size=1, window=window, seed=1).epoch(0).positions
    of_part = positions // 50
    first = {part: int(np.argmax(of_part == part)) for part in range(60)}
    last = {part: len(of_part) - int(np.argmax(of_part[::-1] == part)) for part in range(60)}
    at_once = [
        sum(first[part] <= at < last[part] for part in range(60)) for at in range(0, 3000, 7)
    ]
    assert max(at_once) <= window + 1
    # And they do take turns: a window is no mere bound.
    assert max(at_once) >= min(window, 60) * 0.9
    if window > 2:
        changes = sum(one != other for one, other in pairwise(of_part.tolist()))
        assert changes > 3000 * (1 - 2 / min(window, 60))


def test_epochs_passes_seeds_and_sources_differ_and_nothing_else_does() -> None:
    def positions(epoch: int = 0, **changes: int) -> list[int]:
        given = {"batch_size": 4, "repeats": 2, "seed": 1} | changes
        found: list[int] = Order(part_rows=(20, 20, 20), **given).epoch(epoch).positions.tolist()
        return found

    assert positions() == positions() == positions(batch_size=9)
    others = [positions(1), positions(seed=2), positions(source=1), positions(window=2)]
    assert len({tuple(each) for each in (positions(), *others)}) == 5
    assert positions()[:60] != positions()[60:]


def plan(epochs: int = 3, batch_size: int = 8) -> Plan:
    orders = [
        Order(part_rows=(9, 4, 30), batch_size=batch_size, repeats=2, seed=7, source=0),
        Order(part_rows=(50,), batch_size=batch_size, seed=7, source=1),
        Order(part_rows=(1, 2), batch_size=batch_size, seed=7, source=2),
    ]
    return Plan(orders, epochs=epochs, seed=7)


def test_any_step_is_the_same_wherever_one_begins() -> None:
    whole = [plan().step(step) for step in range(plan().steps)]
    for start in range(0, len(whole), 5):
        begun = plan()
        for step in range(start, len(whole)):
            found = begun.step(step)
            assert (found.step, found.epoch, found.source) == (
                step,
                whole[step].epoch,
                whole[step].source,
            )
            assert np.array_equal(found.positions, whole[step].positions)
            assert np.array_equal(found.repeats, whole[step].repeats)
    # Backwards too: each epoch is put in order again.
    again = plan()
    for step in reversed(range(len(whole))):
        assert np.array_equal(again.step(step).positions, whole[step].positions)
    for beyond in (-1, len(whole)):
        with pytest.raises(IndexError):
            plan().step(beyond)


def test_an_epoch_has_all_data_sets_mixed_and_each_sample_as_often_as_asked() -> None:
    given = plan()
    assert given.steps == 3 * given.steps_per_epoch
    assert given.steps_per_epoch == 11 + 7 + 1
    turns = []
    for epoch in range(3):
        steps = [given.step(epoch * 19 + place) for place in range(19)]
        assert {each.epoch for each in steps} == {epoch}
        seen = Counter((each.source, int(at)) for each in steps for at in each.positions)
        assert seen == (
            Counter({(0, at): 2 for at in range(43)})
            + Counter((1, at) for at in range(50))
            + Counter((2, at) for at in range(3))
        )
        turns.append([each.source for each in steps])
    assert len({tuple(each) for each in turns}) == 3
    assert all(each != sorted(each) for each in turns)


@pytest.mark.parametrize("total", [0, 1, 5, 16, 17])
def test_slices_together_are_the_batch(total: int) -> None:
    for world in (1, 2, 3, 7, 20):
        shares = [range(total)[slice_of(total, rank, world)] for rank in range(world)]
        assert [at for share in shares for at in share] == list(range(total))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_order_is_what_it_was() -> None:
    # Whoever changes it, changes what a training goes on with: that is a new RECIPE_VERSION.
    order = Order(part_rows=(4, 4, 4, 4), batch_size=16, window=2, seed=1, source=1)
    positions = "4 7 6 2 1 5 3 0 9 10 13 15 8 11 14 12"
    assert " ".join(map(str, order.epoch(1).positions)) == positions
    given = plan()
    sources = "1201001000011010100"
    assert "".join(str(given.step(step).source) for step in range(19)) == sources
