"""Fetching in tests: what must not leave the machine does not, and who connects where is seen."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redaction_core.fetching import Fetched, Fetcher, FetchPolicy, Hosts, Lookup

STUCK_S = 60
"""Far above what fetching takes here; reached only by what hangs."""
PUBLIC = "93.184.216.34"
"""An address of the public internet, which leads to an origin of the test."""
LOCAL = FetchPolicy(timeout_s=5, idle_timeout_s=2, backoff_s=0, allow_private_hosts=("127.0.0.1",))
STRICT = FetchPolicy(timeout_s=5, idle_timeout_s=2, backoff_s=0)


class Net(asyncio.SelectorEventLoop):
    """An event loop in whose network public addresses lead where the test says, or nowhere."""

    def __init__(self, leads: Mapping[str, tuple[str, int]]) -> None:
        super().__init__()
        self.leads = leads
        self.connected: list[str] = []

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:  # noqa: ANN401
        self.connected.append(address[0])
        if address[0] in self.leads:
            address = self.leads[address[0]]
        elif not address[0].startswith("127."):
            raise OSError(errno.ENETUNREACH, "no network in tests")
        await super().sock_connect(sock, address)


class Turns:
    """Hosts without limits that keep account."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.pauses: list[tuple[str, float]] = []

    async def enter(self, host: str) -> None:
        self.entered.append(host)
        self.inside[host] += 1
        self.most[host] = max(self.most[host], self.inside[host])

    def leave(self, host: str, *, pause_s: float = 0.0) -> None:
        self.inside[host] -= 1
        if pause_s:
            self.pauses.append((host, pause_s))


class Names:
    """A lookup that answers from a list of answers a name; the last one stays."""

    def __init__(self, answers: Mapping[str, Sequence[list[str] | OSError]]) -> None:
        self._answers = {name: list(rounds) for name, rounds in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        await asyncio.sleep(0)
        rounds = self._answers.get(host)
        if rounds is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answer = rounds.pop(0) if len(rounds) > 1 else rounds[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    while not true():  # noqa: ASYNC110 - the other thread tells nobody
        await asyncio.sleep(0.005)


def fetch_all(  # noqa: PLR0913 - a world has so many parts
    urls: Sequence[str],
    policy: FetchPolicy = LOCAL,
    *,
    hosts: Hosts | None = None,
    lookup: Lookup | None = None,
    leads: Mapping[str, tuple[str, int]] | None = None,
    connected: list[str] | None = None,
    in_turn: bool = False,
) -> list[Fetched]:
    """Fetch all at once, or one after the other, with one fetcher."""

    async def fetch() -> list[Fetched]:
        async with Fetcher(policy, hosts or Turns(), lookup=lookup) as fetcher:
            if in_turn:
                return [await fetcher.fetch(url) for url in urls]
            return await asyncio.gather(*(fetcher.fetch(url) for url in urls))

    net = Net(leads or {})
    with asyncio.Runner(loop_factory=lambda: net) as runner:
        found = runner.run(asyncio.wait_for(fetch(), STUCK_S))
    if connected is not None:
        connected.extend(net.connected)
    return found
