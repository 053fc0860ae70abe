"""One event loop a process that fetches for many threads, and never runs far ahead of them."""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redaction_core.fetching import BudgetedHosts, Fetched, Fetcher, FetchPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redaction_core.plan import PlannedInput

_UNREAD_BYTES = 64 * 2**20
"""Of bodies that nobody has taken yet; with so many, no further request is begun."""

_Answer = tuple["PlannedInput", Fetched]


@dataclass(kw_only=True)
class _Answers:
    """Of one call, until nobody waits for them any more."""

    queue: queue.SimpleQueue[_Answer | BaseException] = field(default_factory=queue.SimpleQueue)
    wanted: bool = True


class FetchLoop:
    """Fetches in a thread of its own; connections, names and robots.txt are kept over calls."""

    def __init__(self, policy: FetchPolicy, open_hosts: Callable[[], BudgetedHosts]) -> None:
        self._policy = policy
        self._open_hosts = open_hosts
        self._loop = asyncio.new_event_loop()
        self._unread = 0
        self._counting = threading.Lock()
        self._closing = AsyncExitStack()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="fetch-loop", daemon=True)
        self._thread.start()
        self._opened.result()  # raises what opening raised

    def fetch(self, urls: Sequence[tuple[PlannedInput, str]]) -> Iterator[_Answer]:
        """Give an answer for every URL as it comes."""
        answers = _Answers()
        work = asyncio.run_coroutine_threadsafe(self._fetch_all(urls, answers), self._loop)
        try:
            for _ in urls:
                answer = answers.queue.get()
                if isinstance(answer, BaseException):
                    raise answer
                self._take(answer[1])
                yield answer
        finally:
            work.cancel()
            self._leave(answers)

    def close(self) -> None:
        """Close all connections; nothing may be under way."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._open())
        except BaseException as error:  # noqa: BLE001 - whoever opens us raises it
            self._opened.set_exception(error)
        else:
            self._opened.set_result(None)
            self._loop.run_forever()
        self._loop.run_until_complete(self._closing.aclose())
        self._loop.close()

    async def _open(self) -> None:
        self._room = asyncio.Event()
        self._room.set()
        hosts = await self._closing.enter_async_context(self._open_hosts())
        fetcher = Fetcher(self._policy, hosts, room=self._wait_for_room)
        self._fetcher = await self._closing.enter_async_context(fetcher)

    async def _fetch_all(self, urls: Sequence[tuple[PlannedInput, str]], answers: _Answers) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for item, url in urls:
                    group.create_task(self._fetch(item, url, answers))
        except BaseExceptionGroup as group:
            answers.queue.put(group.exceptions[0])

    async def _fetch(self, item: PlannedInput, url: str, answers: _Answers) -> None:
        fetched = await self._fetcher.fetch(url)
        with self._counting:
            if not answers.wanted:
                return
            answers.queue.put((item, fetched))
            self._unread += len(fetched.data or b"")
            if self._unread >= _UNREAD_BYTES:
                self._room.clear()

    async def _wait_for_room(self) -> None:
        await self._room.wait()

    def _leave(self, answers: _Answers) -> None:
        """Give back the room of answers that nobody took, and of those to come."""
        with self._counting:
            answers.wanted = False
        while not answers.queue.empty():
            answer = answers.queue.get()
            if not isinstance(answer, BaseException):
                self._take(answer[1])

    def _take(self, fetched: Fetched) -> None:
        with self._counting:
            before = self._unread
            self._unread -= len(fetched.data or b"")
            if self._unread < _UNREAD_BYTES <= before:
                self._loop.call_soon_threadsafe(self._room.set)
