"""robots.txt and X-Robots-Tag are honoured, and nobody waits for a dead robots.txt twice."""

import asyncio
from dataclasses import replace

import pytest

from redaction_core.errors import Failure
from redaction_core.fetching import Fetched, Fetcher, robots
from redaction_core.fetching.answers import check_tags, retry_after
from redaction_core.fetching.outcome import FetchError
from tests.fault_origin import FaultOrigin, picture
from tests.unit.fetches import LOCAL, PUBLIC, STRICT, STUCK_S, Names, Turns, fetch_all

EXAMPLE = "one.example"


def test_forbidden_urls_are_not_asked_for() -> None:
    with FaultOrigin(robots="User-agent: *\nDisallow: /*.png$\nAllow: /free/\n") as origin:
        paths = ["/a.png", "/a.jpg", "/a.png?x", "/free/a.png"]
        found = fetch_all([origin.url(path) for path in paths])
        forbidden = Failure.ROBOTS_TXT
        assert [one.failure for one in found] == [forbidden, None, None, forbidden]
        assert [origin.asked(path) for path in paths] == [0, 1, 1, 0]
        assert (found[0].attempts, found[0].http_status) == (0, None)


@pytest.mark.parametrize(
    ("agents", "forbidden"),
    [
        ("otherbot", False),
        ("*", True),
        ("redaction-audit", True),
        ("Redaction-Audit", True),
        ("otherbot\nUser-agent: redaction-audit", True),
        ("*\nAllow: /\n\nUser-agent: redaction-audit", True),
        ("redaction-audit\nAllow: /\n\nUser-agent: *", False),
    ],
)
def test_rules_are_ours_by_our_name(agents: str, *, forbidden: bool) -> None:
    with FaultOrigin(robots=f"User-agent: {agents}\nDisallow: /image/\n") as origin:
        (one,) = fetch_all([origin.url("/image/a")])
        assert (one.failure is Failure.ROBOTS_TXT) == forbidden


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418])
def test_without_rules_everything_is_allowed(status: int) -> None:
    with FaultOrigin(robots=status) as origin:
        (one,) = fetch_all([origin.url("/image/a")])
        assert one.data == picture("/image/a")
        assert origin.asked("/robots.txt") == 1


@pytest.mark.parametrize(
    ("answer", "failure", "requests"),
    [
        ("/status/500", Failure.SERVER_ERROR, 3),
        ("/status/429", Failure.RATE_LIMITED, 3),
        ("/retry-after/60", Failure.RATE_LIMITED, 1),
        ("/reset", Failure.CONNECTION, 3),
        ("/half", Failure.INCOMPLETE_BODY, 3),
        ("/silence", Failure.TIMEOUT, 3),
        ("/drip", Failure.TIMEOUT, 1),
        ("/brotli", Failure.UNSUPPORTED, 1),
    ],
)
def test_rules_that_cannot_be_had_fail_all_urls_together(
    answer: str, failure: Failure, requests: int
) -> None:
    """A thousand URLs of the host wait once, together, and later ones not at all."""
    policy = replace(LOCAL, timeout_s=1.0, idle_timeout_s=0.3)
    with FaultOrigin(robots=answer) as origin:

        async def fetch() -> list[Fetched]:
            async with Fetcher(policy, Turns()) as fetcher:
                urls = [origin.url(f"/image/{n}") for n in range(1000)]
                first = await asyncio.gather(*(fetcher.fetch(url) for url in urls[:500]))
                return [*first, *[await fetcher.fetch(url) for url in urls[500:]]]

        found = asyncio.run(asyncio.wait_for(fetch(), STUCK_S))
        assert {one.failure for one in found} == {failure}
        assert {one.attempts for one in found} == {0}
        assert all((one.detail or "").startswith("robots.txt: ") for one in found)
        assert all(one.seconds <= policy.timeout_s for one in found)
        assert origin.counts == {"/robots.txt": requests}


def test_what_failed_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robots, "_FAILED_TTL_S", 0.0)
    with FaultOrigin(robots="/status/500/times/3") as origin:
        found = fetch_all([origin.url("/image/a"), origin.url("/image/b")], in_turn=True)
        assert [one.failure for one in found] == [Failure.SERVER_ERROR, None]


@pytest.mark.parametrize(
    ("to", "failure"),
    [
        ("/rules", Failure.ROBOTS_TXT),
        ("http://evil.example/", Failure.PRIVATE_ADDRESS),
        ("/robots.txt", None),  # a loop is no rules
    ],
)
def test_redirected_rules_hold(to: str, failure: Failure | None) -> None:
    names = Names({EXAMPLE: [[PUBLIC]], "evil.example": [["127.0.0.1"]]})
    with FaultOrigin(robots=f"/redirect?to={to}") as origin:
        (one,) = fetch_all(
            [origin.url("/robots-forbidden/a", EXAMPLE)],
            STRICT,
            lookup=names,
            leads={PUBLIC: ("127.0.0.1", origin.port)},
        )
        assert one.failure is failure


def test_waiting_for_rules_is_the_time_of_the_url() -> None:
    """The first rules take more than half of it, and those where it is led never end."""
    policy = replace(LOCAL, timeout_s=1.2, idle_timeout_s=1.0)
    with FaultOrigin(robots="/slow/0.7") as first, FaultOrigin(robots="/drip") as second:
        (one,) = fetch_all([first.url(f"/redirect?to={second.url('/image/a')}")], policy)
        assert second.counts == {"/robots.txt": 1}
    assert (one.failure, one.detail) == (Failure.TIMEOUT, "robots.txt: no end of it in time")
    assert one.seconds == policy.timeout_s


@pytest.mark.parametrize("size", [600_000, 20_000])
def test_only_the_beginning_of_huge_rules_is_read(size: int) -> None:
    """And what is cut is parsed without stopping everything else."""
    filler = "# " + "x" * 61 + "\n"
    text = "User-agent: *\nDisallow: /early/\n" + filler * (size // 64) + "Disallow: /late/\n"
    with FaultOrigin(robots=text) as origin:
        early, late = fetch_all([origin.url("/early/a"), origin.url("/late/a")])
        assert early.failure is Failure.ROBOTS_TXT
        assert (late.failure is Failure.ROBOTS_TXT) == (size < 512 * 1024)


def test_each_origin_has_its_rules_and_they_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robots, "_KEPT", 5)
    names = Names({f"{n}.example": [[PUBLIC]] for n in range(10)})
    with FaultOrigin() as origin:
        urls = [origin.url("/image/a", f"{n}.example") for n in range(10)]
        leads = {PUBLIC: ("127.0.0.1", origin.port)}
        again = [*urls, *urls[5:], *urls[:5]]
        found = fetch_all(again, STRICT, lookup=names, leads=leads, in_turn=True)
        assert not any(one.failure for one in found)
        assert origin.asked("/robots.txt") == 15


def test_without_robots_nothing_is_asked_and_tags_do_not_count() -> None:
    with FaultOrigin() as origin:
        urls = [origin.url("/robots-forbidden/a"), origin.url("/noai")]
        found = fetch_all(urls, replace(LOCAL, robots=False))
        assert not any(one.failure for one in found)
        assert origin.asked("/robots.txt") == 0


def test_crawl_delay_is_one_request_at_a_time_and_a_pause_for_all() -> None:
    turns = Turns()
    names = Names({EXAMPLE: [[PUBLIC]]})
    with FaultOrigin(robots="User-agent: *\nCrawl-delay: 2.5\n") as origin:
        urls = [origin.url(f"/slow/0.01/id/{n}", EXAMPLE) for n in range(5)]
        leads = {PUBLIC: ("127.0.0.1", origin.port)}
        fetch_all(urls, STRICT, hosts=turns, lookup=names, leads=leads)
    assert turns.most[EXAMPLE] == 1
    assert turns.pauses == [(EXAMPLE, 2.5)] * 5


def test_crawl_delay_has_an_end() -> None:
    turns = Turns()
    names = Names({EXAMPLE: [[PUBLIC]]})
    with FaultOrigin(robots="User-agent: *\nCrawl-delay: 1e99\n") as origin:
        leads = {PUBLIC: ("127.0.0.1", origin.port)}
        fetch_all([origin.url("/a", EXAMPLE)], STRICT, hosts=turns, lookup=names, leads=leads)
    assert turns.pauses == [(EXAMPLE, 10.0)]


@pytest.mark.parametrize(
    ("path", "pause_s"),
    [
        ("/retry-after/60", 60.0),
        ("/retry-after/99999999", 300.0),
        ("/unavailable/60", 60.0),
        ("/status/500", None),
    ],
)
def test_a_host_that_asks_for_a_rest_gets_it(path: str, pause_s: float | None) -> None:
    turns = Turns()
    names = Names({EXAMPLE: [[PUBLIC]]})
    with FaultOrigin() as origin:
        leads = {PUBLIC: ("127.0.0.1", origin.port)}
        fetch_all([origin.url(path, EXAMPLE)], STRICT, hosts=turns, lookup=names, leads=leads)
    assert turns.pauses == ([(EXAMPLE, pause_s)] if pause_s else [])


@pytest.mark.parametrize(
    ("values", "forbidden"),
    [
        (["noai"], True),
        (["NoAI, nofollow"], True),
        (["nofollow", "noindex"], True),
        (["none"], True),
        (["noimageindex"], True),
        (["noimageai"], True),
        (["redaction-audit: noai"], True),
        (["redaction-audit: nofollow, noai"], True),
        (["otherbot: noai"], False),
        (["otherbot: nofollow, noai"], False),
        (["otherbot: noai", "noindex"], True),
        (["otherbot: noai, redaction-audit: noai"], True),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noai"], True),
        (["max-snippet: -1, noarchive"], False),
        (["all"], False),
        ([], False),
        ([""], False),
    ],
)
def test_tags(values: list[str], *, forbidden: bool) -> None:
    if not forbidden:
        check_tags(values)
        return
    with pytest.raises(FetchError) as refused:
        check_tags(values)
    assert refused.value.failure is Failure.ROBOTS_TAG


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 12 ", 12.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("9" * 400, None),
        ("Wed, 99 Oct 9999999 07:28:00 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds
