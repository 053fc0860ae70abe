"""Every fault that an origin can have ends in its class, in time, with as many requests as said."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from redaction_core.errors import Failure, UsageError
from redaction_core.fetching import (
    BudgetedHosts,
    Fetched,
    Fetcher,
    FetchPolicy,
    HostBudget,
    local_exchange,
)
from redaction_core.fetching.outcome import Clock
from tests.fault_answers import FAULTS
from tests.fault_origin import FaultOrigin, picture
from tests.unit.fetches import LOCAL, PUBLIC, STRICT, STUCK_S, Names, Net, Turns, fetch_all, until

POLICY = replace(LOCAL, timeout_s=3.5, idle_timeout_s=1, max_bytes=3_000_000)


@dataclass(frozen=True)
class Case:
    path: str
    failure: Failure | None
    requests: int = 1
    """For this very URL."""
    status: int | None = 200
    attempts: int | None = None
    """As many as requests, if not said."""


CASES = [
    Case("/image/1.png", None),
    *(Case(f"/status/{code}", Failure.NOT_FOUND, status=code) for code in (404, 410)),
    *(
        Case(f"/status/{code}", Failure.FORBIDDEN, status=code)
        for code in (401, 402, 403, 407, 451)
    ),
    *(
        Case(f"/status/{code}", Failure.CLIENT_ERROR, status=code)
        for code in (201, 206, 300, 304, 400, 405, 418, 600)
    ),
    *(
        Case(f"/status/{code}", Failure.SERVER_ERROR, 3, status=code)
        for code in (500, 502, 503, 504)
    ),
    Case("/status/203/times/1", None, status=203),
    Case("/status/408", Failure.TIMEOUT, 3, status=408),
    Case("/status/408/times/1", None, 2),
    Case("/status/500/times/2/id/7", None, 3),
    Case("/status/429", Failure.RATE_LIMITED, 3, status=429),
    Case("/retry-after/1/times/1", None, 2),
    Case("/retry-after/1d/times/1", None, 2),
    Case("/retry-after/60", Failure.RATE_LIMITED, status=429),
    Case("/retry-after/60d", Failure.RATE_LIMITED, status=429),
    Case("/retry-after/soon/times/1", None, 2),
    Case("/unavailable/1/times/1", None, 2),
    Case("/unavailable/60", Failure.SERVER_ERROR, status=503),
    Case("/reset", Failure.CONNECTION, 3, status=None),
    Case("/reset/times/2", None, 3),
    Case("/hang-up", Failure.CONNECTION, 3, status=None),
    Case("/garbage", Failure.CONNECTION, 3, status=None),
    Case("/headers", Failure.CONNECTION, 3, status=None),
    Case("/bad-chunk", Failure.CONNECTION, 3, status=None),
    Case("/half", Failure.INCOMPLETE_BODY, 3),
    Case("/half/times/1", None, 2),
    Case("/half-chunk", Failure.INCOMPLETE_BODY, 3),
    Case("/length/long", Failure.INCOMPLETE_BODY, 3),
    Case("/gzip-half", Failure.INCOMPLETE_BODY, 3),
    Case("/drip", Failure.TIMEOUT),
    Case("/silence", Failure.TIMEOUT, 3, status=None),
    Case("/silence/times/1", None, 2),
    Case("/stall", Failure.TIMEOUT, 3),
    Case("/slow/0.2", None),
    Case("/type", None),
    Case("/gzip", None),
    Case("/deflate", None),
    Case("/deflate-bare", None),
    Case("/gzip-not", Failure.CONNECTION),
    Case("/brotli", Failure.UNSUPPORTED),
    Case("/gzip-bomb", Failure.TOO_MANY_BYTES),
    Case("/endless", Failure.TOO_MANY_BYTES),
    Case("/endless-chunks", Failure.TOO_MANY_BYTES),
    Case("/announced/3000001", Failure.TOO_MANY_BYTES),
    Case("/loop", Failure.BAD_REDIRECT, status=302),
    Case("/loop/2", Failure.BAD_REDIRECT, status=302),
    Case("/redirects/5/a", None),
    Case("/redirects/6/b", Failure.BAD_REDIRECT, status=301),
    *(Case(f"/redirect/{code}?to=/image/{code}", None) for code in (301, 302, 303, 307, 308)),
    Case("/redirect?to=image/beside", None),
    Case("/redirect?to=//127.0.0.1:1/", Failure.CONNECTION, status=None, attempts=0),
    Case("/redirect", Failure.BAD_REDIRECT, status=302),
    Case("/redirect?to=ftp://127.0.0.1/", Failure.BAD_REDIRECT, status=302),
    Case("/redirect?to=javascript:1", Failure.BAD_REDIRECT, status=302),
    Case("/redirect?to=http://[/", Failure.BAD_REDIRECT, status=302),
    Case("/redirect?to=http://127.0.0.1:99999/", Failure.BAD_REDIRECT, status=302),
    Case("/redirect?to=/bl%C3%A5/b%20ild", None),
    Case("/redirect?to=http://169.254.169.254/latest", Failure.PRIVATE_ADDRESS, status=302),
    Case("/redirect?to=http://10.0.0.1/", Failure.PRIVATE_ADDRESS, status=302),
    Case("/redirect?to=http://[::1]/", Failure.PRIVATE_ADDRESS, status=302),
    Case("/redirect?to=http://127.2/", Failure.PRIVATE_ADDRESS, status=302),
    Case("/robots-forbidden/a", Failure.ROBOTS_TXT, 0, status=None),
    Case("/redirect?to=/robots-forbidden/b", Failure.ROBOTS_TXT, status=None),
    Case("/noai", Failure.ROBOTS_TAG),
]


@dataclass(frozen=True)
class World:
    origin: FaultOrigin
    found: dict[str, Fetched]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Ask for everything at once, so that the slow ones wait together."""
    with FaultOrigin() as origin:
        found = fetch_all([origin.url(case.path) for case in CASES], POLICY)
        yield World(origin, {case.path: one for case, one in zip(CASES, found, strict=True)})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_every_fault_ends_in_its_class_with_so_many_requests(case: Case, world: World) -> None:
    found = world.found[case.path]
    assert (found.failure, found.http_status) == (case.failure, case.status), found
    assert world.origin.asked(case.path) == case.requests
    if case.attempts is None:
        assert found.attempts == case.requests
    assert (found.data is None) == (case.failure is not None)
    assert (found.detail is None) == (case.failure is None)
    # The clock of a URL stops at its deadline.
    assert found.seconds <= POLICY.timeout_s


@pytest.mark.parametrize(
    ("path", "served"),
    [
        *((path, path) for path in ("/image/1.png", "/type", "/gzip", "/deflate", "/deflate-bare")),
        *((path, path) for path in ("/status/500/times/2/id/7", "/reset/times/2", "/half/times/1")),
        ("/redirects/5/a", "/image/a"),
        ("/redirect/308?to=/image/308", "/image/308"),
        ("/redirect?to=/bl%C3%A5/b%20ild", "/bl%C3%A5/b%20ild"),
    ],
)
def test_what_comes_is_what_was_served(path: str, served: str, world: World) -> None:
    assert world.found[path].data == picture(served)


def test_each_redirect_is_one_request(world: World) -> None:
    for left in range(1, 6):
        assert world.origin.asked(f"/redirects/{left}/a") == 1
        assert world.origin.asked(f"/redirects/{left}/b") == 1
    assert world.origin.asked("/image/a") == 1
    assert world.origin.asked("/image/b") == 0  # the sixth redirect was not followed


def test_rules_are_asked_for_once(world: World) -> None:
    assert world.origin.asked("/robots.txt") == 1
    assert world.origin.asked("/robots-forbidden/b") == 0


def test_bytes_are_those_that_came(world: World) -> None:
    assert world.found["/image/1.png"].bytes == len(picture("/image/1.png"))
    assert world.found["/half"].bytes == 3 * (len(picture("/half")) // 2)
    assert POLICY.max_bytes < world.found["/endless"].bytes < POLICY.max_bytes + 2_000_000
    assert world.found["/gzip-bomb"].bytes < 100_000
    assert world.found["/announced/3000001"].bytes == 0


def test_every_fault_of_the_origin_is_shown() -> None:
    words = {case.path.split("/")[1].partition("?")[0] for case in CASES}
    elsewhere = {"bytes", "tag", "html.jpg", "empty", "announced", "cookie"}
    assert set(FAULTS) - elsewhere <= words


def test_more_than_announced_never_harms_the_next() -> None:
    """What follows the end of a body comes when its connection is used again, or not at all."""
    with FaultOrigin() as origin:
        paths = ["/length/short", "/image/a", "/image/b"] * 3
        found = fetch_all([origin.url(path) for path in paths], in_turn=True)
        for path, one in zip(paths, found, strict=True):
            whole = picture(path)
            assert one.data == (whole[: len(whole) // 2] if path == "/length/short" else whole)


def test_content_is_not_judged_here() -> None:
    with FaultOrigin() as origin:
        html, empty = fetch_all([origin.url("/html.jpg"), origin.url("/empty")])
    assert html.data is not None
    assert b"<html>" in html.data
    assert empty.data == b""


@pytest.mark.parametrize("kind", ["", "/chunked"])
@pytest.mark.parametrize("size", [999_999, 1_000_001, 2_000_000])
def test_up_to_the_limit_all_is_read(size: int, kind: str) -> None:
    with FaultOrigin() as origin:
        policy = replace(LOCAL, max_bytes=2_000_000)
        (one,) = fetch_all([origin.url(f"/bytes/{size}{kind}")], policy)
        (less,) = fetch_all(
            [origin.url(f"/bytes/{size}{kind}")], replace(LOCAL, max_bytes=size - 1)
        )
    assert one.data == b"\x01" * size
    assert less.failure is Failure.TOO_MANY_BYTES


def test_large_bodies_wait_for_each_other_and_all_arrive() -> None:
    with FaultOrigin() as origin:
        urls = [origin.url(f"/bytes/1500000/chunked/id/{n}") for n in range(30)]
        found = fetch_all(urls)
    assert [len(one.data or b"") for one in found] == [1_500_000] * 30


def test_the_clock_stands_still_in_a_queue_and_runs_on_after_it() -> None:
    reached: list[float] = []

    async def wait() -> None:
        clock, turn = Clock(0.2), asyncio.Semaphore(0)
        asyncio.get_running_loop().call_later(0.5, turn.release)
        async with clock.start():
            await clock.wait_outside(turn)
            reached.append(clock.left_s)
            await asyncio.sleep(STUCK_S)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())
    assert 0 < reached[0] <= 0.2


def test_as_many_at_once_as_allowed_and_connections_are_kept() -> None:
    with FaultOrigin() as origin:
        urls = [origin.url(f"/slow/0.02/id/{n}") for n in range(60)]
        found = fetch_all(urls, replace(LOCAL, in_flight=5))
        assert all(one.failure is None for one in found)
        assert origin.busiest == 5
        assert origin.connections <= 5


def test_workers_together_ask_a_host_no_harder_than_its_budget() -> None:
    budget = HostBudget(connections=3, rate=1e6)
    names = Names({"one.example": [[PUBLIC]]})

    async def fetch(worker: str, origin: FaultOrigin) -> list[Fetched]:
        exchange = local_exchange(budget, worker)
        async with (
            BudgetedHosts(exchange, gather_s=0.001, poll_s=0.005) as hosts,
            Fetcher(STRICT, hosts, lookup=names) as fetcher,
        ):
            urls = [origin.url(f"/slow/0.01/{worker}/{n}", "one.example") for n in range(15)]
            return await asyncio.gather(*(fetcher.fetch(url) for url in urls))

    async def work(origin: FaultOrigin) -> None:
        for found in await asyncio.gather(*(fetch(worker, origin) for worker in "abcd")):
            assert not any(one.failure for one in found)

    with FaultOrigin() as origin:
        net = Net({PUBLIC: ("127.0.0.1", origin.port)})
        with asyncio.Runner(loop_factory=lambda: net) as runner:
            runner.run(asyncio.wait_for(work(origin), STUCK_S))
        assert origin.busiest == 3
        assert origin.asked("/robots.txt") == 4


def test_connections_are_kept_over_small_errors() -> None:
    with FaultOrigin() as origin:
        paths = ["/image/a", "/status/404", "/redirect?to=/image/b", "/status/503"] * 3
        fetch_all([origin.url(path) for path in paths], in_turn=True)
        assert origin.connections == 1


def test_several_hosts_at_once() -> None:
    hosts = ("127.0.0.1", "127.0.0.2", "localhost")
    with FaultOrigin("127.0.0.1", "127.0.0.2") as origin:
        urls = [origin.url("/image/a", host) for host in hosts]
        found = fetch_all(urls, replace(LOCAL, allow_private_hosts=hosts))
        assert [one.data for one in found] == [picture("/image/a")] * 3
        assert {call.host.partition(":")[0] for call in origin.calls} == set(hosts)
        assert origin.asked("/robots.txt") == 3


def test_requests_wait_for_room_and_not_on_their_time() -> None:
    room = asyncio.Event()

    async def fetch() -> Fetched:
        async with Fetcher(replace(LOCAL, timeout_s=0.3), Turns(), room=wait) as fetcher:
            work = asyncio.ensure_future(fetcher.fetch(origin.url("/image/a")))
            await asyncio.sleep(0.5)
            assert not origin.calls
            room.set()
            return await work

    async def wait() -> None:
        await room.wait()

    with FaultOrigin() as origin:
        assert asyncio.run(asyncio.wait_for(fetch(), STUCK_S)).failure is None


def test_a_closed_door_is_tried_again() -> None:
    with FaultOrigin() as origin:
        dead = origin.url("/image/a")
    (one,) = fetch_all([dead], replace(LOCAL, robots=False))
    assert (one.failure, one.attempts) == (Failure.CONNECTION, 3)
    assert one.detail == "the connection failed: connection refused"


def test_tls_that_is_none_is_not_tried_again() -> None:
    with FaultOrigin() as origin:
        url = origin.url("/image/a").replace("http:", "https:")
        (one,) = fetch_all([url], replace(LOCAL, robots=False))
    assert (one.failure, one.attempts) == (Failure.CONNECTION, 1)


def test_healed_origins_serve() -> None:
    with FaultOrigin() as origin:
        urls = [origin.url(path) for path in ("/status/500", "/reset", "/loop", "/noai")]
        before = fetch_all(urls, replace(LOCAL, attempts=1))
        origin.heal()
        after = fetch_all(urls)
    assert all(one.failure for one in before)
    assert not any(one.failure for one in after)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_capped(attempts: int) -> None:
    with FaultOrigin() as origin:
        (one,) = fetch_all([origin.url("/status/500")], replace(LOCAL, attempts=attempts))
        assert one.attempts == origin.asked("/status/500") == attempts


def test_no_attempt_begins_that_has_no_time() -> None:
    with FaultOrigin() as origin:
        policy = replace(LOCAL, timeout_s=0.5, backoff_s=1e6, max_backoff_s=1e6)
        (one,) = fetch_all([origin.url("/status/500")], policy)
        assert (one.failure, origin.asked("/status/500")) == (Failure.SERVER_ERROR, 1)


def test_no_redirect_is_followed_if_none_is_allowed() -> None:
    with FaultOrigin() as origin:
        (one,) = fetch_all([origin.url("/redirects/1/a")], replace(LOCAL, max_redirects=0))
        assert one.failure is Failure.BAD_REDIRECT
        assert origin.asked("/image/a") == 0


def test_cancelling_ends_everything_at_once() -> None:
    turns = Turns()
    with FaultOrigin() as origin:

        async def cancel() -> None:
            async with Fetcher(LOCAL, turns) as fetcher:
                work = asyncio.ensure_future(fetcher.fetch(origin.url("/silence")))
                await until(lambda: origin.asked("/silence") > 0)
                work.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await work

        asyncio.run(asyncio.wait_for(cancel(), STUCK_S))
    assert not +turns.inside


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0},
        {"attempts": 0},
        {"max_bytes": 0},
        {"in_flight": 0},
        {"idle_timeout_s": -1},
        {"max_redirects": -1},
        {"backoff_s": -1.0},
        {"timeout_s": float("nan")},
        {"contact": "me\r\nX-Evil: 1"},
        {"contact": "\x7f"},
        {"contact": "mé"},
        {"allow_private_hosts": ("http://localhost",)},
        {"allow_private_hosts": ("localhost:80",)},
        {"allow_private_hosts": ("",)},
    ],
)
def test_policies_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        FetchPolicy(**wrong)  # type: ignore[arg-type]
