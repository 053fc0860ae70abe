"""From a URL of a stranger's list to the bytes of an image, or to why there are none."""

from types import TracebackType
from typing import Self

from redaction_core.errors import Failure
from redaction_core.fetching.client import Client, Room
from redaction_core.fetching.hosts import Hosts
from redaction_core.fetching.outcome import Clock, Errand, Fetched, FetchError
from redaction_core.fetching.policy import FetchPolicy
from redaction_core.fetching.resolver import Lookup
from redaction_core.fetching.robots import Robots
from redaction_core.fetching.urls import parse_url


class Fetcher:
    """Fetches any number of URLs at once, within the limits; one a process, in one event loop.

    `lookup` gives the addresses of a name instead of the system's resolver; they are checked all
    the same. `room` is awaited before each request, so that whoever takes the bodies can hold
    further ones back; that wait is not the URL's time.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        hosts: Hosts,
        *,
        lookup: Lookup | None = None,
        room: Room | None = None,
    ) -> None:
        self._policy = policy
        self._client = Client(policy, hosts, lookup, room)
        self._robots = Robots(self._client)
        self._check = self._robots.check if policy.robots else None

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._robots.close()
        await self._client.__aexit__(kind, error, trace)

    async def fetch(self, url: str) -> Fetched:
        """Give what became of a URL.

        Raises only what `Hosts` raises where turns cannot be had.
        """
        policy = self._policy
        errand = Errand(
            clock=Clock(policy.timeout_s),
            max_bytes=policy.max_bytes,
            max_redirects=policy.max_redirects,
        )
        data: bytes | None = None
        failure: Failure | None = None
        detail: str | None = None
        status: int | None = None
        try:
            target = parse_url(url, self._client.free_hosts)
            data = await self._client.run(target, errand, self._check)
            status = errand.status
        except FetchError as error:
            failure, detail, status = error.failure, error.detail, error.status
        return Fetched(
            data=data,
            failure=failure,
            detail=detail,
            http_status=status,
            attempts=errand.attempts,
            bytes=errand.bytes,
            seconds=errand.clock.spent_s,
        )
