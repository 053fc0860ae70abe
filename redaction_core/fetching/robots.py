"""The rules of robots.txt, one file an origin."""

import asyncio
import time
from collections import OrderedDict
from typing import Final

from protego import Protego

from redaction_core.errors import Failure
from redaction_core.fetching.client import Client
from redaction_core.fetching.outcome import Clock, Errand, FetchError
from redaction_core.fetching.policy import PRODUCT
from redaction_core.fetching.urls import Target, parse_url

_MAX_BYTES: Final = 512 * 1024
_MAX_REDIRECTS: Final = 5
_TTL_S: Final = 24 * 3600.0
_FAILED_TTL_S: Final = 30.0
_KEPT: Final = 10_000
_KEPT_CHARS: Final = 4_000_000  # parsed rules take fifty times their text
_PARSED_HERE: Final = 16_384  # characters; half a megabyte takes half a second to parse
_LONGEST_DELAY_S: Final = 10.0
_LEAST_WAIT_S: Final = 0.02

# RFC 9309, 2.3.1.3: without rules, everything is allowed. A host that says 429 is not without.
_WITHOUT_RULES: Final = frozenset(
    {Failure.NOT_FOUND, Failure.FORBIDDEN, Failure.CLIENT_ERROR, Failure.BAD_REDIRECT}
)


class Rules:
    """What one robots.txt says to us, or why it cannot be had."""

    def __init__(self, text: str = "", failure: FetchError | None = None) -> None:
        """Parse; for large texts this takes long."""
        self.chars = len(text)
        self.failure = failure
        self.until = time.monotonic() + (_TTL_S if failure is None else _FAILED_TTL_S)
        self.turn = asyncio.Lock()
        self._parsed = Protego.parse(text) if text.strip() else None
        delay_s = self._parsed.crawl_delay(PRODUCT) if self._parsed else None
        self.delay_s = min(max(delay_s or 0.0, 0.0), _LONGEST_DELAY_S)

    def allow(self, url: str) -> bool:
        """Say whether we may ask for this URL."""
        return self._parsed is None or self._parsed.can_fetch(url, PRODUCT)


class Robots:
    """Fetches each origin's robots.txt once, by the rules of every request, and keeps it a day.

    While it cannot be had (5xx, 429, network), every URL of the origin fails as it did; that is
    kept for half a minute, so that a thousand URLs of a dead host wait for it once, together.
    Crawl-delay, up to 10 s, is honoured so: this process asks such a host for one URL at a time,
    and rests the host that long after each, for all processes.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: OrderedDict[tuple[str, str, int], Rules] = OrderedDict()
        self._chars = 0
        self._coming: dict[tuple[str, str, int], tuple[asyncio.Task[Rules], Clock]] = {}

    async def check(self, target: Target, errand: Errand) -> Rules | None:
        """Let a URL pass that may be asked for; give the pace of its host if there is one.

        Raises:
            FetchError: `ROBOTS_TXT`, or why robots.txt cannot be had.
        """
        rules = self._known.get(target.origin)
        if rules is None or rules.until < time.monotonic():
            rules = await self._wait(target, errand.clock)
        else:
            self._known.move_to_end(target.origin)
        if rules.failure is not None:
            raise FetchError(rules.failure.failure, f"robots.txt: {rules.failure.detail}")
        if not rules.allow(str(target.url)):
            raise FetchError(Failure.ROBOTS_TXT, "forbidden by the host's robots.txt")
        return rules if rules.delay_s else None

    async def close(self) -> None:
        """Wait for no file any longer."""
        tasks = [task for task, _ in self._coming.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, target: Target, clock: Clock) -> Rules:
        """Wait for a file that is coming; the time that it takes counts, its turns do not."""
        if target.origin not in self._coming:
            own = Clock(self._client.policy.timeout_s)
            task = asyncio.create_task(self._fetch(target, own))
            self._coming[target.origin] = task, own
            task.add_done_callback(lambda done: self._arrived(target.origin, done))
        task, its_clock = self._coming[target.origin]
        before_s = its_clock.spent_s
        while not task.done():
            left_s = clock.left_s - (its_clock.spent_s - before_s)
            if left_s <= 0:
                clock.charge(clock.left_s)
                raise FetchError(Failure.TIMEOUT, "robots.txt: no end of it in time")
            await asyncio.wait((task,), timeout=max(left_s, _LEAST_WAIT_S))
        clock.charge(its_clock.spent_s - before_s)
        return task.result()

    def _arrived(self, origin: tuple[str, str, int], task: asyncio.Task[Rules]) -> None:
        del self._coming[origin]
        if task.cancelled() or task.exception() is not None:
            return
        old = self._known.pop(origin, None)
        self._known[origin] = task.result()
        self._chars += task.result().chars - (old.chars if old else 0)
        while len(self._known) > _KEPT or (self._chars > _KEPT_CHARS and len(self._known) > 1):
            self._chars -= self._known.popitem(last=False)[1].chars

    async def _fetch(self, target: Target, clock: Clock) -> Rules:
        errand = Errand(
            clock=clock, max_bytes=_MAX_BYTES, max_redirects=_MAX_REDIRECTS, is_image=False
        )
        try:
            there = parse_url(str(target.robots_url), self._client.free_hosts)
            data = await self._client.run(there, errand)
        except FetchError as error:
            if error.failure in _WITHOUT_RULES:
                return Rules()
            return Rules(failure=error)
        text = data.decode("utf-8-sig", "replace")
        if len(text) > _PARSED_HERE:
            return await asyncio.to_thread(Rules, text)
        return Rules(text)
