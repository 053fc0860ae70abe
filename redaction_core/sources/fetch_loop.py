"""One event loop a process that fetches for many threads, and never runs far ahead of them."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from redaction_core.fetching import BudgetedHosts, Fetched, Fetcher, FetchPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redaction_core.plan import PlannedInput

_UNREAD_BYTES = 64 * 2**20
"""Of bodies that nobody has taken yet; with so many, no further request is begun."""

_Answer = tuple["PlannedInput", Fetched]


class FetchLoop:
    """Fetches in a thread of its own; connections, names and robots.txt are kept over calls."""

    def __init__(self, policy: FetchPolicy, open_hosts: Callable[[], BudgetedHosts]) -> None:
        self._policy = policy
        self._open_hosts = open_hosts
        self._loop = asyncio.new_event_loop()
        self._unread = 0
        self._counting = threading.Lock()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fetch-loop", daemon=True)
        self._thread.start()
        self._started.wait()

    def fetch(self, urls: Sequence[tuple[PlannedInput, str]]) -> Iterator[_Answer]:
        """Give an answer for every URL as it comes."""
        answers: queue.SimpleQueue[_Answer | BaseException] = queue.SimpleQueue()
        work = asyncio.run_coroutine_threadsafe(self._fetch_all(urls, answers), self._loop)
        try:
            for _ in urls:
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                self._take(answer[1])
                yield answer
        finally:
            work.cancel()

    def close(self) -> None:
        """Close all connections; nothing may be under way."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._open())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._closing.aclose())
        self._loop.close()

    async def _open(self) -> None:
        self._room = asyncio.Event()
        self._room.set()
        self._closing = AsyncExitStack()
        hosts = await self._closing.enter_async_context(self._open_hosts())
        fetcher = Fetcher(self._policy, hosts, room=self._wait_for_room)
        self._fetcher = await self._closing.enter_async_context(fetcher)

    async def _fetch_all(
        self,
        urls: Sequence[tuple[PlannedInput, str]],
        answers: queue.SimpleQueue[_Answer | BaseException],
    ) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for item, url in urls:
                    group.create_task(self._fetch(item, url, answers))
        except BaseExceptionGroup as group:
            answers.put(group.exceptions[0])

    async def _fetch(
        self,
        item: PlannedInput,
        url: str,
        answers: queue.SimpleQueue[_Answer | BaseException],
    ) -> None:
        fetched = await self._fetcher.fetch(url)
        with self._counting:
            self._unread += len(fetched.data or b"")
            if self._unread >= _UNREAD_BYTES:
                self._room.clear()
        answers.put((item, fetched))

    async def _wait_for_room(self) -> None:
        await self._room.wait()

    def _take(self, fetched: Fetched) -> None:
        with self._counting:
            before = self._unread
            self._unread -= len(fetched.data or b"")
            if self._unread < _UNREAD_BYTES <= before:
                self._loop.call_soon_threadsafe(self._room.set)
