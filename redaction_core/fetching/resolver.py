"""Names to addresses: looked up once, checked, and used as checked."""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from redaction_core.errors import Failure
from redaction_core.fetching.addresses import is_public
from redaction_core.fetching.outcome import FetchError

Lookup = Callable[[str], Awaitable[list[str]]]
"""Gives the addresses of a name; raises OSError (`socket.gaierror`) where there are none."""

_THREADS: Final = 64  # a dead name holds one for many seconds
_KNOWN: Final = 10_000
_MOST_ADDRESSES: Final = 8
_TTL_S: Final = 300.0
_REFUSED_TTL_S: Final = 60.0
# Others (no such name, no address of it) are the last word.
_TRANSIENT: Final = {socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM}


class CheckedResolver(AbstractResolver):
    """Gives aiohttp public addresses alone, so that it connects to what was checked.

    Several lookups of one name are one. Answers are kept for five minutes, refusals for one;
    failures that may pass are not kept.
    """

    def __init__(self, free_hosts: frozenset[str], lookup: Lookup | None = None) -> None:
        self._free_hosts = free_hosts
        self._threads = ThreadPoolExecutor(_THREADS, "lookup")
        self._lookup = lookup or self._ask_system
        self._known: OrderedDict[str, tuple[float, list[str] | FetchError]] = OrderedDict()
        self._coming: dict[str, asyncio.Task[list[str]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the checked addresses of a name.

        Raises:
            FetchError: `DNS`, or `PRIVATE_ADDRESS` where none is public.
        """
        del family  # IPv4 and IPv6 alike
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in await self._addresses(host)
        ]

    async def close(self) -> None:
        """Wait for no lookup any longer."""
        tasks = list(self._coming.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str) -> list[str]:
        kept = self._known.get(host)
        if kept is not None and kept[0] > time.monotonic():
            self._known.move_to_end(host)
            if isinstance(kept[1], FetchError):
                raise FetchError(kept[1].failure, kept[1].detail)
            return kept[1]
        task = self._coming.get(host)
        if task is None:
            task = self._coming[host] = asyncio.create_task(self._look_up(host))
            task.add_done_callback(lambda done: self._forget_task(host, done))
        # The lookup is everybody's: one URL that gives up must not end it.
        return await asyncio.shield(task)

    def _forget_task(self, host: str, task: asyncio.Task[list[str]]) -> None:
        del self._coming[host]
        if not task.cancelled():
            task.exception()  # seen, even if nobody waits any longer

    async def _look_up(self, host: str) -> list[str]:
        try:
            found = await self._lookup(host)
            addresses = self._checked(host, found)
        except FetchError as error:
            self._keep(host, _REFUSED_TTL_S, error)
            raise
        except socket.gaierror as error:
            transient = error.errno in _TRANSIENT
            failed = FetchError(
                Failure.DNS,
                f"{host}: {error.strerror or 'the lookup failed'}",
                transient=transient,
            )
            if not transient:
                self._keep(host, _REFUSED_TTL_S, failed)
            raise failed from None
        except (OSError, UnicodeError):
            raise FetchError(Failure.DNS, f"{host}: the lookup failed", transient=True) from None
        self._keep(host, _TTL_S, addresses)
        return addresses

    def _checked(self, host: str, found: list[str]) -> list[str]:
        if not found:
            raise FetchError(Failure.DNS, f"{host} has no address")
        if host not in self._free_hosts:
            public = [address for address in found if is_public(address)]
            if not public:
                raise FetchError(
                    Failure.PRIVATE_ADDRESS, f"{host} resolves to {found[0]}, which is not public"
                )
            found = public
        return list(dict.fromkeys(found))[:_MOST_ADDRESSES]

    def _keep(self, host: str, ttl_s: float, what: list[str] | FetchError) -> None:
        self._known[host] = (time.monotonic() + ttl_s, what)
        self._known.move_to_end(host)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    async def _ask_system(self, host: str) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return [str(entry[4][0]) for entry in found]
