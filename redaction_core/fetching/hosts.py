"""How hard each host is asked, by all workers of a run together."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from redaction_core.errors import UsageError

_SWEEP_S: Final = 10.0
_ROUNDING: Final = 1e-9


class Hosts(Protocol):
    """Turns to ask a host; what is entered is left again, whatever happens."""

    async def enter(self, host: str) -> None:
        """Wait for a turn."""

    def leave(self, host: str, *, pause_s: float = 0.0) -> None:
        """End a turn; with a pause, nobody asks the host before it is over."""


class Exchange(Protocol):
    """`HostBudget.exchange` for one worker, wherever the budget and its clock live."""

    async def __call__(
        self,
        *,
        wanted: Mapping[str, int],
        returned: Mapping[str, int],
        pauses: Mapping[str, float],
    ) -> dict[str, int]:
        """Give the turns that were granted."""


@dataclass(slots=True)
class _Host:
    tokens: float
    filled: float
    """When the tokens were counted last."""
    paused_until: float = -math.inf
    used: int = 0
    """Turns that are held, reserved ones among them."""
    held: dict[str, int] = field(default_factory=dict)
    """By worker."""
    ready: dict[str, int] = field(default_factory=dict)
    """Turns reserved for a worker that has not called since."""
    queue: dict[str, int] = field(default_factory=dict)
    """Turns that workers wait for; the first worker is the next."""


class HostBudget:
    """Turns of hosts, for all workers: pure bookkeeping, the caller brings the time.

    A host has at most `connections` turns out at once and gives at most `rate` a second; after a
    rest it gives a burst of one second's (but no more than `connections`, and one at least).
    Workers that wait for the same host get its turns one by one, in a ring. A worker that does not
    call for `lease_s` is taken for dead, and its turns are taken back. Memory is that of the hosts
    in use.
    """

    def __init__(self, *, connections: int, rate: float, lease_s: float = 60.0) -> None:
        if connections < 1 or not rate > 0 or not lease_s > 0:
            raise UsageError("a host needs at least one connection, and a rate of more than 0")
        self._connections = connections
        self._rate = rate
        self._lease_s = lease_s
        self._burst = max(1.0, min(rate, float(connections)))
        self._hosts: dict[str, _Host] = {}
        self._of_worker: dict[str, set[str]] = {}
        # The one that called longest ago is the first.
        self._called: dict[str, float] = {}
        self._now = -math.inf
        self._swept = -math.inf

    def exchange(
        self,
        worker: str,
        *,
        wanted: Mapping[str, int],
        returned: Mapping[str, int],
        pauses: Mapping[str, float],
        now: float,
    ) -> dict[str, int]:
        """Take back turns, and grant what can be granted of those that the worker waits for.

        `wanted` is all that it still waits for, and replaces what it said before; `pauses` are
        seconds from `now`, which never runs backwards.
        """
        self._now = max(now, self._now)
        self._called.pop(worker, None)
        self._called[worker] = self._now
        self._end_leases()
        for host, pause_s in pauses.items():
            state = self._state(host)
            state.paused_until = max(state.paused_until, self._now + pause_s)
        for host, count in returned.items():
            if (known := self._hosts.get(host)) is not None:
                self._take_back(known, worker, count)
        mine = self._of_worker.setdefault(worker, set())
        for host in [host for host in mine if wanted.get(host, 0) < 1]:
            self._stop_waiting(host, worker)
        granted = {host: self._grant(host, worker, count) for host, count in wanted.items()}
        self._sweep()
        return {host: count for host, count in granted.items() if count}

    def __len__(self) -> int:
        """How many hosts are remembered."""
        return len(self._hosts)

    def _state(self, host: str) -> _Host:
        if (state := self._hosts.get(host)) is None:
            state = self._hosts[host] = _Host(tokens=self._burst, filled=self._now)
        return state

    def _grant(self, host: str, worker: str, count: int) -> int:
        if count < 1:
            return 0
        state = self._state(host)
        self._of_worker[worker].add(host)
        if self._now < state.paused_until or state.ready.get(worker, 0) > count:
            self._unreserve(state, worker)
        state.queue[worker] = count - state.ready.get(worker, 0)
        if not state.queue[worker]:
            del state.queue[worker]
        self._serve(state)
        return state.ready.pop(worker, 0)

    def _serve(self, state: _Host) -> None:
        """Reserve the turns that there are, one by one around the ring."""
        passed = self._now - state.filled
        gained = math.inf if math.isinf(self._rate) else passed * self._rate
        state.tokens = min(self._burst, state.tokens + gained)
        state.filled = self._now
        if self._now < state.paused_until:
            return
        while state.queue and state.used < self._connections and state.tokens >= 1 - _ROUNDING:
            worker = next(iter(state.queue))
            still = state.queue.pop(worker) - 1
            if still:
                state.queue[worker] = still
            state.tokens -= 1
            state.used += 1
            state.held[worker] = state.held.get(worker, 0) + 1
            state.ready[worker] = state.ready.get(worker, 0) + 1

    def _take_back(self, state: _Host, worker: str, count: int) -> None:
        # A worker that was taken for dead gives back what it holds no more.
        count = min(max(count, 0), state.held.get(worker, 0))
        state.used -= count
        if left := state.held.pop(worker, 0) - count:
            state.held[worker] = left

    def _unreserve(self, state: _Host, worker: str) -> None:
        count = state.ready.pop(worker, 0)
        self._take_back(state, worker, count)
        state.tokens = min(self._burst, state.tokens + count)

    def _stop_waiting(self, host: str, worker: str) -> None:
        if (state := self._hosts.get(host)) is not None:
            state.queue.pop(worker, None)
            self._unreserve(state, worker)
        if state is None or worker not in state.held:
            self._of_worker[worker].discard(host)

    def _end_leases(self) -> None:
        while self._called:
            worker = next(iter(self._called))
            if self._now - self._called[worker] < self._lease_s:
                return
            del self._called[worker]
            for host in self._of_worker.pop(worker, ()):
                if (state := self._hosts.get(host)) is not None:
                    state.queue.pop(worker, None)
                    self._unreserve(state, worker)
                    self._take_back(state, worker, state.held.get(worker, 0))

    def _sweep(self) -> None:
        """Forget hosts that are as if they had never been asked."""
        if self._now - self._swept < _SWEEP_S:
            return
        self._swept = self._now
        for host, state in list(self._hosts.items()):
            passed = self._now - state.filled
            rested = passed > 0 and state.tokens + passed * self._rate >= self._burst
            busy = state.used or state.queue or self._now < state.paused_until
            if rested and not busy:
                del self._hosts[host]


def local_exchange(budget: HostBudget, worker: str = "local") -> Exchange:
    """Give the exchange of a worker with a budget of its own process."""

    async def exchange(
        *,
        wanted: Mapping[str, int],
        returned: Mapping[str, int],
        pauses: Mapping[str, float],
    ) -> dict[str, int]:
        now = time.monotonic()
        return budget.exchange(worker, wanted=wanted, returned=returned, pauses=pauses, now=now)

    return exchange
