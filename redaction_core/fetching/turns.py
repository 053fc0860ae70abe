"""A worker's turns: waits are gathered, and exchanged with the budget by one task."""

import asyncio
import time
from collections import Counter, deque
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from redaction_core.fetching.hosts import Exchange

_CLOSING_S: Final = 5.0


class BudgetedHosts:
    """`Hosts` whose turns a budget elsewhere grants, for all that waits in this event loop.

    The first wait for a host is told to the budget after `gather_s`; while anything waits or is to
    be given back, the budget is asked every `poll_s`; while turns are only held, every `beat_s`, so
    that they are not taken back; else never. Between two calls passes at least the time that one
    takes. What `exchange` raises reaches everyone who waits.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        gather_s: float = 0.005,
        poll_s: float = 0.075,
        beat_s: float = 3.0,
    ) -> None:
        self._exchange = exchange
        self._gather_s, self._poll_s, self._beat_s = gather_s, poll_s, beat_s
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._held = 0
        self._returned: Counter[str] = Counter()
        self._pauses: dict[str, float] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def enter(self, host: str) -> None:
        """Wait for a turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(host, deque()).append(turn)
        self._go_on(urgent=len(self._waiting[host]) == 1)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave(host)
            elif (queue := self._waiting.get(host)) is not None:
                with suppress(ValueError):
                    queue.remove(turn)
                if not queue:
                    del self._waiting[host]
            raise

    def leave(self, host: str, *, pause_s: float = 0.0) -> None:
        """Give the turn back."""
        self._held -= 1
        self._give_back(host, 1)
        if pause_s > 0:
            self._pauses[host] = max(pause_s, self._pauses.get(host, 0.0))
        self._go_on(urgent=host in self._waiting)

    async def close(self) -> None:
        """Give everything back; who still waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for queue in self._waiting.values():
            for turn in queue:
                turn.cancel()
        self._waiting.clear()
        if self._returned or self._pauses:
            # A budget that is gone needs nothing back, and one that lives ends the lease.
            with suppress(Exception):
                async with asyncio.timeout(_CLOSING_S):
                    await self._call()

    def _give_back(self, host: str, count: int) -> None:
        self._returned[host] += count

    def _go_on(self, *, urgent: bool) -> None:
        if urgent:
            self._news.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting or self._held > 0 or self._returned or self._pauses:
                pending = self._waiting or self._returned or self._pauses
                if not self._news.is_set():
                    pause_s = self._poll_s if pending and not self._failed else self._beat_s
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await self._news.wait()
                if self._news.is_set():
                    await asyncio.sleep(self._gather_s)
                self._news.clear()
                started = time.monotonic()
                await self._call_for_all()
                await asyncio.sleep(time.monotonic() - started)
        finally:
            self._task = None

    async def _call_for_all(self) -> None:
        try:
            await self._call()
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiting ones raise it
            self._failed = True
            waiting, self._waiting = self._waiting, {}
            for queue in waiting.values():
                for turn in queue:
                    if not turn.done():
                        turn.set_exception(error)
        else:
            self._failed = False

    async def _call(self) -> None:
        wanted = {host: len(queue) for host, queue in self._waiting.items()}
        returned, self._returned = self._returned, Counter()
        pauses, self._pauses = self._pauses, {}
        try:
            granted = await self._exchange(wanted=wanted, returned=returned, pauses=pauses)
        except BaseException:
            self._returned.update(returned)
            for host, pause_s in pauses.items():
                self._pauses[host] = max(pause_s, self._pauses.get(host, 0.0))
            raise
        for host, count in granted.items():
            self._hand_out(host, count)

    def _hand_out(self, host: str, count: int) -> None:
        queue = self._waiting.get(host, deque())
        while count and queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                self._held += 1
                count -= 1
        if not queue:
            self._waiting.pop(host, None)
        if count:  # who waited for them has given up
            self._give_back(host, count)
