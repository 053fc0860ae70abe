"""The budget of hosts: never more than allowed, fair, and without loss when workers die."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from itertools import pairwise

import pytest

from redaction_core.errors import UsageError
from redaction_core.fetching import BudgetedHosts, HostBudget, local_exchange
from tests.unit.fetches import STUCK_S, until

HOST = "a.example"
INFINITE = float("inf")


class World:
    """A budget and a clock that the test moves."""

    def __init__(self, *, connections: int = 4, rate: float = INFINITE) -> None:
        self.budget = HostBudget(connections=connections, rate=rate)
        self.now = 100.0

    def call(
        self,
        worker: str,
        wanted: Mapping[str, int] | int = 0,
        returned: int = 0,
        pause_s: float | None = None,
    ) -> Mapping[str, int]:
        return self.budget.exchange(
            worker,
            wanted={HOST: wanted} if isinstance(wanted, int) else wanted,
            returned={HOST: returned} if returned else {},
            pauses={} if pause_s is None else {HOST: pause_s},
            now=self.now,
        )

    def granted(self, worker: str, wanted: int = 0, returned: int = 0) -> int:
        return self.call(worker, wanted, returned).get(HOST, 0)


def test_no_more_at_once_than_connections() -> None:
    world = World(connections=3)
    assert world.granted("a", 5) == 3
    assert world.granted("a", 2) == 0
    world.now += 10
    assert world.granted("a", 2) == 0
    assert world.granted("a", 2, returned=1) == 1
    assert world.granted("b", 1) == 0


def test_hosts_do_not_share() -> None:
    world = World(connections=2)
    assert world.call("a", {"x": 5, "y": 1, "z": 0}) == {"x": 2, "y": 1}


def test_no_more_a_second_than_the_rate() -> None:
    world = World(connections=5, rate=10)
    granted = []
    for _ in range(200):  # ten seconds
        count = world.granted("a", 100, returned=granted[-1] if granted else 0)
        granted.append(count)
        world.now += 0.05
    assert 99 <= sum(granted) <= 105  # and a burst of five
    assert max(granted) == 5


def test_a_slow_rate_gives_one_at_a_time() -> None:
    world = World(connections=8, rate=0.5)
    times = []
    for _ in range(120):
        if world.granted("a", 1):
            times.append(world.now)
            world.granted("a", 0, returned=1)
        world.now += 0.1
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == 6
    assert min(gaps) > 1.95


def test_an_infinite_rate_is_no_rate() -> None:
    world = World(connections=2)
    for _ in range(10):
        assert world.granted("a", 2) == 2
        world.granted("a", 0, returned=2)


def test_nobody_asks_before_a_pause_is_over() -> None:
    world = World(connections=2)
    assert world.granted("a", 1) == 1
    world.call("a", 0, returned=1, pause_s=5)
    world.call("b", 0, pause_s=2)  # a shorter one does not end the longer
    world.now += 4.9
    assert world.granted("a", 1) == world.granted("b", 1) == 0
    world.now += 0.2
    assert world.granted("a", 1) == world.granted("b", 1) == 1


def test_a_turn_that_is_reserved_waits_for_the_end_of_a_pause() -> None:
    world = World(connections=1)
    world.granted("a", 1)
    world.granted("b", 1)
    world.granted("c", 1)
    world.granted("a", 0, returned=1)
    assert world.granted("c", 1) == 0  # it is reserved for b now
    world.call("a", 0, pause_s=5)
    assert world.granted("b", 1) == 0
    world.now += 5
    assert world.granted("b", 1) + world.granted("c", 1) == 1


def test_time_never_runs_backwards() -> None:
    world = World(connections=1, rate=1)
    assert world.granted("a", 1) == 1
    world.now -= 1000
    assert world.granted("a", 1, returned=1) == 0
    world.now += 1001
    assert world.granted("a", 1) == 1


@pytest.mark.parametrize("connections", [1, 3])
def test_workers_that_wait_get_turns_in_a_ring(connections: int) -> None:
    """Even against one that gives back and asks for the same in one call, and calls most often."""
    world = World(connections=connections)
    served: Counter[str] = Counter()
    held: Counter[str] = Counter()
    rng = random.Random(1)
    for _ in range(3000):
        worker = rng.choices(["greedy", "b", "c"], [10, 1, 1])[0]
        back, held[worker] = held[worker], 0
        held[worker] = world.granted(worker, 50, returned=back)
        served[worker] += held[worker]
        world.now += 0.01
    assert min(served.values()) > 0.8 * max(served.values()), served


def test_what_is_no_longer_wanted_goes_to_others() -> None:
    world = World(connections=1)
    world.granted("a", 1)
    world.granted("b", 1)
    world.granted("a", 1, returned=1)  # reserved for b
    assert world.call("b", {}) == {}
    assert world.granted("a", 1) == 1


def test_the_turns_of_a_dead_worker_are_taken_back() -> None:
    world = World(connections=2)
    assert world.granted("dead", 2) == 2
    for _ in range(59):
        world.now += 1
        assert world.granted("b", 2) == 0
    world.now += 1
    assert world.granted("b", 2) == 2
    # It was not dead after all: what it gives back is no longer its own.
    assert world.granted("dead", 0, returned=2) == 0
    assert world.granted("c", 1) == 0


def test_whoever_calls_keeps_its_turns() -> None:
    world = World(connections=1)
    assert world.granted("a", 1) == 1
    for _ in range(100):
        world.now += 30
        world.call("a", {})
        assert world.granted("b", 1) == 0


def test_idle_hosts_are_forgotten_and_begin_anew() -> None:
    world = World(connections=2, rate=1)
    for number in range(1000):
        host = f"{number}.example"
        world.call("a", {host: 1})
        world.budget.exchange("a", wanted={}, returned={host: 1}, pauses={}, now=world.now)
        world.now += 0.1
    assert len(world.budget) < 200
    world.now += 30
    world.call("a", {})
    assert len(world.budget) == 0


def test_paused_hosts_are_remembered() -> None:
    world = World()
    world.call("a", 0, pause_s=100)
    world.now += 99
    world.call("a", {})
    assert world.granted("a", 1) == 0


@pytest.mark.parametrize("seed", range(5))
def test_never_more_than_allowed_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    world = World(connections=4, rate=20)
    held: Counter[tuple[str, str]] = Counter()
    grants: dict[str, list[float]] = {}
    for _ in range(4000):
        world.now += rng.expovariate(50)
        worker = rng.choice("abcde")
        returned = {}
        for host in "xyz":
            if count := rng.randint(0, held[worker, host]):
                returned[host] = count
                held[worker, host] -= count
        wanted = {host: rng.randint(0, 6) for host in "xyz" if rng.random() < 0.7}
        granted = world.budget.exchange(
            worker, wanted=wanted, returned=returned, pauses={}, now=world.now
        )
        for host, count in granted.items():
            assert count <= wanted[host]
            held[worker, host] += count
            grants.setdefault(host, []).extend([world.now] * count)
            assert sum(held[other, host] for other in "abcde") <= 4
    for times in grants.values():
        assert len(times) <= 20 * (times[-1] - times[0]) + 4 + 1


@pytest.mark.parametrize("wrong", [{"connections": 0, "rate": 1}, {"connections": 1, "rate": 0}])
def test_budgets_that_give_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        HostBudget(connections=wrong["connections"], rate=wrong["rate"])


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(work(), STUCK_S)

    asyncio.run(bounded())


class Watched:
    """A local exchange that counts, and fails when told."""

    def __init__(self, *, connections: int = 2, rate: float = 1e6) -> None:
        self.budget = HostBudget(connections=connections, rate=rate)
        self.calls = 0
        self.error: Exception | None = None
        self._exchange = local_exchange(self.budget)

    async def __call__(
        self,
        *,
        wanted: Mapping[str, int],
        returned: Mapping[str, int],
        pauses: Mapping[str, float],
    ) -> dict[str, int]:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return await self._exchange(wanted=wanted, returned=returned, pauses=pauses)

    def free(self) -> int:
        granted = self.budget.exchange(
            "probe", wanted={HOST: 99}, returned={}, pauses={}, now=float("-inf")
        )
        back = self.budget.exchange("probe", wanted={}, returned=granted, pauses={}, now=0)
        assert not back
        return granted.get(HOST, 0)


def test_a_worker_never_has_more_turns_than_granted() -> None:
    async def work() -> None:
        watched = Watched(connections=3)
        async with BudgetedHosts(watched, gather_s=0.001, poll_s=0.002) as hosts:
            inside = most = 0

            async def ask() -> None:
                nonlocal inside, most
                await hosts.enter(HOST)
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1
                hosts.leave(HOST)

            await asyncio.gather(*(ask() for _ in range(60)))
            assert most == 3
        assert watched.free() == 3

    run(work)


def test_waits_are_told_together_and_idle_workers_are_silent() -> None:
    async def work() -> None:
        watched = Watched(connections=100)
        async with BudgetedHosts(watched, gather_s=0.01, poll_s=0.01) as hosts:
            await asyncio.gather(*(hosts.enter(f"{n}.example") for n in range(100)))
            assert watched.calls == 1
            for n in range(100):
                hosts.leave(f"{n}.example")
            await until(lambda: watched.calls == 2)
            await asyncio.sleep(0.1)
            assert watched.calls == 2

    run(work)


def test_turns_that_are_held_are_confirmed() -> None:
    async def work() -> None:
        watched = Watched()
        async with BudgetedHosts(watched, gather_s=0.001, beat_s=0.005) as hosts:
            await hosts.enter(HOST)
            await until(lambda: watched.calls > 5)
            hosts.leave(HOST)

    run(work)


def test_a_cancelled_wait_loses_no_turn() -> None:
    async def work() -> None:
        watched = Watched(connections=2)
        async with BudgetedHosts(watched, gather_s=0.001, poll_s=0.002) as hosts:
            await hosts.enter(HOST)
            rng = random.Random(2)
            for _ in range(100):
                waiting = [asyncio.ensure_future(hosts.enter(HOST)) for _ in range(3)]
                await asyncio.sleep(rng.random() * 0.005)
                for one in waiting:
                    if not one.cancel():
                        hosts.leave(HOST)
                await asyncio.gather(*waiting, return_exceptions=True)
            hosts.leave(HOST)
            await asyncio.gather(hosts.enter(HOST), hosts.enter(HOST))
            hosts.leave(HOST)
            hosts.leave(HOST)
        assert watched.free() == 2

    run(work)


def test_a_pause_reaches_everyone() -> None:
    async def work() -> None:
        watched = Watched()
        async with (
            BudgetedHosts(watched, gather_s=0.001, poll_s=0.002) as one,
            BudgetedHosts(watched, gather_s=0.001, poll_s=0.002) as other,
        ):
            await one.enter(HOST)
            one.leave(HOST, pause_s=3600)
            calls = watched.calls
            await until(lambda: watched.calls > calls)
            for hosts in (one, other):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(hosts.enter(HOST), 0.05)

    run(work)


def test_what_the_exchange_raises_reaches_all_that_wait_and_it_goes_on_after() -> None:
    async def work() -> None:
        watched = Watched(connections=1)
        hosts = BudgetedHosts(watched, gather_s=0.001, poll_s=0.002, beat_s=0.005)
        await hosts.enter(HOST)
        watched.error = ConnectionError("the budget is gone")
        found = await asyncio.gather(
            *(hosts.enter(name) for name in (HOST, HOST, "b.example")), return_exceptions=True
        )
        assert found == [watched.error] * 3
        hosts.leave(HOST)
        await asyncio.sleep(0.02)
        watched.error = None
        await hosts.enter(HOST)  # what was given back meanwhile was not lost
        hosts.leave(HOST)
        await hosts.close()
        assert watched.free() == 1

    run(work)


def test_closing_gives_back_and_ends_waits() -> None:
    async def work() -> None:
        watched = Watched(connections=1)
        hosts = BudgetedHosts(watched, gather_s=0.001, poll_s=0.002)
        await hosts.enter(HOST)
        waiting = asyncio.ensure_future(hosts.enter(HOST))
        await asyncio.sleep(0.01)
        hosts.leave("b.example")
        await hosts.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(work)
