"""The gate: by turn, within the limit, and never stuck."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from redaction_core.gate import Gate

# Far above what passing takes; reached only by a gate that is stuck.
STUCK_S = 60


def test_works_enter_by_turn() -> None:
    gate = Gate(2)
    # With one inside for good, there is room for one other at a time.
    gate.enter(0, 1)
    order: list[int] = []

    def work(turn: int) -> None:
        cost = gate.enter(turn, 1)
        order.append(turn)
        gate.release(cost)

    turns = list(range(1, 40))
    shuffled = random.Random(3).sample(turns, len(turns))
    threads = [threading.Thread(target=work, args=(turn,), daemon=True) for turn in shuffled]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STUCK_S)

    assert order == turns


def test_nobody_enters_before_the_one_in_front() -> None:
    gate = Gate(100)
    entered = threading.Event()

    def second() -> None:
        gate.enter(1, 1)
        entered.set()

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    assert not entered.wait(0.05)
    gate.enter(0, 1)
    assert entered.wait(STUCK_S)
    thread.join(STUCK_S)


def test_what_is_inside_is_within_the_limit() -> None:
    limit = 40
    gate = Gate(limit)
    lock, inside, highest = threading.Lock(), 0, 0
    rng = random.Random(5)
    costs = [rng.choice([1, 3, 10, 20, 1000]) for _ in range(200)]

    def work(turn: int) -> int:
        nonlocal inside, highest
        cost = gate.enter(turn, costs[turn])
        with lock:
            inside += cost
            highest = max(highest, inside)
        with lock:
            inside -= cost
        gate.release(cost)
        return cost

    with ThreadPoolExecutor(16) as pool:
        paid = list(pool.map(work, range(200), timeout=STUCK_S))

    assert paid == [min(cost, limit // 2) for cost in costs]
    assert 0 < highest <= limit


def test_whatever_fits_does_not_wait() -> None:
    gate = Gate(40)
    with ThreadPoolExecutor(1) as pool:
        paid = [pool.submit(gate.enter, turn, cost) for turn, cost in enumerate((20, 12, 8, 0))]
        assert [future.result(STUCK_S) for future in paid] == [20, 12, 8, 0]
        last = pool.submit(gate.enter, 4, 1)
        gate.release(8)
        assert last.result(STUCK_S) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_giants_do_not_lock_it(threads: int, seed: int) -> None:
    """Windows are collected in order and released together, as a shard does, giants among them."""
    limit = 20
    gate = Gate(limit)
    rng = random.Random(seed)
    costs = [rng.choice([0, 1, 2, 5, 9, 10, 11, 500]) for _ in range(300)]
    with ThreadPoolExecutor(threads) as pool:
        coming = [pool.submit(gate.enter, turn, cost) for turn, cost in enumerate(costs)]
        window: list[int] = []
        try:
            for future in coming:
                window.append(future.result(STUCK_S))
                if sum(window) >= limit // 2:
                    for cost in window:
                        gate.release(cost)
                    window = []
        finally:
            gate.open()


def test_an_open_gate_holds_nobody() -> None:
    gate = Gate(10)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(gate.enter, turn, 10) for turn in (3, 7, 9)]
        gate.open()
        assert [future.result(STUCK_S) for future in waiting] == [5, 5, 5]
