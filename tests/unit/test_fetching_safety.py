"""Hostile lists: we connect to checked addresses alone, and credentials stay where they are."""

import asyncio
import base64
import socket
from dataclasses import replace

import pytest

from redaction_core.errors import Failure
from redaction_core.fetching import resolver
from redaction_core.fetching.outcome import FetchError
from redaction_core.fetching.resolver import CheckedResolver
from tests.fault_origin import FaultOrigin, picture
from tests.unit.fetches import LOCAL, PUBLIC, STRICT, Names, Turns, fetch_all

AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_private_addresses_are_never_connected_to() -> None:
    connected: list[str] = []
    with FaultOrigin() as origin:
        hosts = ("127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "10.0.0.1")
        urls = [origin.url("/image/a", host) for host in (*hosts, "169.254.169.254", "[::1]")]
        found = fetch_all(urls, STRICT, connected=connected)
        assert {one.failure for one in found} == {Failure.PRIVATE_ADDRESS}
        assert not origin.calls
    assert not connected


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "100.64.1.1"],
)
def test_a_name_that_resolves_to_a_private_address(address: str) -> None:
    connected: list[str] = []
    names = Names({"evil.example": [[address]]})
    with FaultOrigin() as origin:
        (one,) = fetch_all(
            [origin.url("/image/a", "evil.example")], STRICT, lookup=names, connected=connected
        )
    assert one.failure is Failure.PRIVATE_ADDRESS
    assert not connected


def test_the_system_resolver_is_checked_too() -> None:
    with FaultOrigin() as origin:
        urls = [origin.url("/image/a", host) for host in ("localhost", "LOCALHOST", "localhost.")]
        found = fetch_all(urls, STRICT)
        assert {one.failure for one in found} == {Failure.PRIVATE_ADDRESS}
        assert not origin.calls
        (allowed,) = fetch_all(urls[:1], replace(STRICT, allow_private_hosts=("LocalHost",)))
        assert allowed.data == picture("/image/a")


def test_of_mixed_addresses_only_public_ones_are_connected_to() -> None:
    connected: list[str] = []
    names = Names({"mixed.example": [["127.0.0.1", PUBLIC, "10.0.0.1"]]})
    with FaultOrigin() as origin:
        (one,) = fetch_all(
            [origin.url("/image/a", "mixed.example")],
            STRICT,
            lookup=names,
            leads={PUBLIC: ("127.0.0.1", origin.port)},
            connected=connected,
        )
    assert one.data == picture("/image/a")
    assert set(connected) == {PUBLIC}


def test_a_name_that_changes_its_answer_is_looked_up_once() -> None:
    """The second answer is loopback; each hang-up makes another connection."""
    connected: list[str] = []
    names = Names({"rebind.example": [[PUBLIC], ["127.0.0.1"]]})
    with FaultOrigin() as origin:
        (one,) = fetch_all(
            [origin.url("/hang-up/times/2", "rebind.example")],
            STRICT,
            lookup=names,
            leads={PUBLIC: ("127.0.0.1", origin.port)},
            connected=connected,
        )
        assert (one.data, one.attempts) == (picture("/hang-up/times/2"), 3)
    assert names.asked == ["rebind.example"]
    assert set(connected) == {PUBLIC}
    assert len(connected) >= 3


def test_a_changed_answer_is_checked_when_it_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver, "_TTL_S", -1.0)
    connected: list[str] = []
    names = Names({"rebind.example": [[PUBLIC], ["127.0.0.1"]]})
    with FaultOrigin() as origin:
        (one,) = fetch_all(
            [origin.url("/hang-up", "rebind.example")],
            replace(STRICT, robots=False),
            lookup=names,
            leads={PUBLIC: ("127.0.0.1", origin.port)},
            connected=connected,
        )
        assert origin.asked("/hang-up") == 1
    assert one.failure is Failure.PRIVATE_ADDRESS
    assert connected == [PUBLIC]
    assert len(names.asked) == 2


def test_redirects_to_names_are_checked() -> None:
    names = Names({"good.example": [[PUBLIC]], "evil.example": [["169.254.169.254"]]})
    connected: list[str] = []
    with FaultOrigin() as origin:
        urls = [
            origin.url(f"/redirect?to=http://{host}/", "good.example")
            for host in ("evil.example", "127.0.0.1", f"localhost:{origin.port}", "[::1]", "0")
        ]
        leads = {PUBLIC: ("127.0.0.1", origin.port)}
        found = fetch_all(urls, STRICT, lookup=names, leads=leads, connected=connected)
        names_known = Names({"good.example": [[PUBLIC]], "localhost": [["127.0.0.1"]]})
        (local,) = fetch_all(
            urls[2:3], STRICT, lookup=names_known, leads=leads, connected=connected
        )
    failures = [one.failure for one in found]
    private = Failure.PRIVATE_ADDRESS
    assert failures == [private, private, Failure.DNS, private, private]
    assert local.failure is Failure.PRIVATE_ADDRESS
    assert set(connected) == {PUBLIC}


def test_names_that_do_not_resolve() -> None:
    names = Names({"empty.example": [[]]})
    urls = ["http://gone.example/a", "http://gone.example/b", "http://empty.example/"]
    found = fetch_all(urls, STRICT, lookup=names)
    assert {one.failure for one in found} == {Failure.DNS}
    assert names.asked.count("gone.example") == 1


def test_lookups_that_may_succeed_later_are_tried_again() -> None:
    names = Names({"slow.example": [AGAIN, AGAIN, [PUBLIC]], "dead.example": [AGAIN]})
    with FaultOrigin() as origin:
        urls = [origin.url("/image/a", f"{name}.example") for name in ("slow", "dead")]
        found = fetch_all(
            urls,
            replace(STRICT, robots=False),
            lookup=names,
            leads={PUBLIC: ("127.0.0.1", origin.port)},
        )
    assert [one.failure for one in found] == [None, Failure.DNS]
    assert [one.attempts for one in found] == [3, 3]
    assert names.asked.count("dead.example") == 3


def test_one_lookup_serves_all_that_wait_even_if_the_first_gives_up() -> None:
    async def resolve() -> None:
        asked: list[str] = []
        answer = asyncio.Event()

        async def lookup(host: str) -> list[str]:
            asked.append(host)
            await answer.wait()
            return [PUBLIC, PUBLIC]

        checked = CheckedResolver(frozenset(), lookup)
        waiting = [asyncio.ensure_future(checked.resolve("a.example", 80)) for _ in range(10)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        answer.set()
        found = await asyncio.gather(*waiting[1:])
        assert [[entry["host"] for entry in one] for one in found] == [[PUBLIC]] * 9
        assert asked == ["a.example"]
        await checked.close()

    asyncio.run(resolve())


def test_known_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_KNOWN", 10)

    async def resolve() -> None:
        names = Names({f"{n}.example": [[PUBLIC]] for n in range(50)})
        checked = CheckedResolver(frozenset(), names)
        for n in range(50):
            await checked.resolve(f"{n}.example", 80)
        assert len(checked._known) == 10  # noqa: SLF001
        await checked.resolve("49.example", 80)
        assert len(names.asked) == 50
        with pytest.raises(FetchError):
            await checked.resolve("unknown.example", 80)
        await checked.close()

    asyncio.run(resolve())


def test_credentials_go_to_their_host_alone() -> None:
    names = Names({"one.example": [[PUBLIC]], "two.example": [[PUBLIC]]})
    with FaultOrigin() as origin:
        there = origin.url("/image/there", "two.example")
        urls = [
            origin.url("/image/a", "me:s3cret@one.example"),
            origin.url("/redirect?to=/image/same", "me:s3cret@one.example"),
            origin.url(f"/redirect?to={there}", "me:s3cret@one.example"),
            origin.url("/status/401", "me:s3cret@one.example"),
        ]
        found = fetch_all(urls, STRICT, lookup=names, leads={PUBLIC: ("127.0.0.1", origin.port)})
        sent = {call.target: call.headers.get("authorization") for call in origin.calls}
    basic = "Basic " + base64.b64encode(b"me:s3cret").decode()
    assert sent["/image/a"] == sent["/image/same"] == basic
    assert sent["/image/there"] is None
    assert sent["/robots.txt"] is None
    assert "s3cret" not in repr(found)
    assert "s3cret" not in "".join(call.target for call in origin.calls)


@pytest.mark.parametrize("contact", [None, "mailto:me@lab.example"])
def test_every_request_says_who_asks(contact: str | None) -> None:
    with FaultOrigin() as origin:
        fetch_all([origin.url("/redirect?to=/image/a")], replace(LOCAL, contact=contact))
        agents = {call.headers["user-agent"] for call in origin.calls}
        encodings = {call.headers["accept-encoding"] for call in origin.calls}
    assert len(origin.calls) == 3
    (agent,) = agents
    assert agent.startswith("redaction-audit/")
    assert (contact or "none given") in agent
    assert encodings == {"identity"}


def test_no_proxy_and_no_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with FaultOrigin() as origin:
        found = fetch_all([origin.url("/cookie/a"), origin.url("/cookie/b")], in_turn=True)
        assert all(one.failure is None for one in found)
        assert not any("cookie" in call.headers for call in origin.calls)


def test_hosts_that_may_be_private_have_no_turns_and_others_do() -> None:
    names = Names({"one.example": [[PUBLIC]]})
    turns = Turns()
    with FaultOrigin() as origin:
        leads = {PUBLIC: ("127.0.0.1", origin.port)}
        urls = [origin.url("/image/a"), origin.url("/image/b", "one.example")]
        fetch_all(urls, LOCAL, hosts=turns, lookup=names, leads=leads)
    assert turns.entered == ["one.example", "one.example"]  # robots.txt is a request, too
    assert not +turns.inside
