"""One event loop for many threads: what it raises, and how far it runs ahead."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from redaction_core.errors import StorageError
from redaction_core.fetching import BudgetedHosts, FetchPolicy, HostBudget, local_exchange
from redaction_core.plan import PlannedInput
from redaction_core.sources import fetch_loop
from redaction_core.sources.fetch_loop import FetchLoop
from redaction_core.sources.source import Details
from redaction_core.sources.urls import UrlSource
from tests.fault_origin import FaultOrigin, picture

_Result = TypeVar("_Result")

STUCK_S = 60
"""Far above what anything takes here; reached only by what hangs."""
LOCAL = FetchPolicy(timeout_s=20, backoff_s=0, robots=False, allow_private_hosts=("127.0.0.1",))


def plenty() -> BudgetedHosts:
    return BudgetedHosts(local_exchange(HostBudget(connections=100, rate=1e6)))


def inputs(origin: FaultOrigin, *paths: str) -> list[tuple[PlannedInput, str]]:
    return [(PlannedInput(key=path, size=0, version=""), origin.url(path)) for path in paths]


@pytest.fixture
def origin() -> Iterator[FaultOrigin]:
    with FaultOrigin() as served:
        yield served


@pytest.fixture
def loop() -> Iterator[FetchLoop]:
    made = FetchLoop(LOCAL, plenty)
    yield made
    made.close()


def in_time(call: Callable[[], _Result]) -> _Result:
    """Call it in a thread that ends with the tests, should it hang."""
    done: Future[_Result] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(STUCK_S)


def test_several_threads_get_their_own_answers(tmp_path: Path, origin: FaultOrigin) -> None:
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{origin.url(f'/id/{number}')}\n" for number in range(300)))
    source = UrlSource(location=str(path), policy=LOCAL)
    planned = list(source.planned())
    reader = source.open()
    shards = [planned[at : at + 25] for at in range(0, 300, 25)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda shard: list(reader.contents(shard)), shards))
    reader.close()
    for shard, contents in zip(shards, found, strict=True):
        assert sorted(each.item.key for each in contents) == [item.key for item in shard]
        for each in contents:
            url = Details.of(each.item).name
            assert each.data == picture(url.removeprefix(origin.url("")))
    assert all(count == 1 for count in origin.counts.values())
    # One pool of connections for all of them.
    assert origin.connections <= LOCAL.in_flight


def test_answers_come_as_they_are_there(origin: FaultOrigin, loop: FetchLoop) -> None:
    slow = FetchPolicy(
        timeout_s=2 * STUCK_S,
        idle_timeout_s=2 * STUCK_S,
        robots=False,
        allow_private_hosts=("127.0.0.1",),
    )
    waiting = FetchLoop(slow, plenty)
    answers = waiting.fetch(inputs(origin, "/drip", "/id/1", "/id/2"))
    assert {next(answers)[0].key, next(answers)[0].key} == {"/id/1", "/id/2"}
    # The origin may still be leaving those it has answered.
    in_time(lambda: ended(origin, left=1))
    assert origin.busy == 1
    answers.close()  # type: ignore[attr-defined]  # a generator
    # What nobody waits for any more is given up.
    in_time(lambda: ended(origin))
    waiting.close()
    assert [item.key for item, _ in loop.fetch(inputs(origin, "/id/3"))] == ["/id/3"]


def test_what_hosts_raise_reaches_everyone_who_asks(origin: FaultOrigin) -> None:
    async def exchange(**_: Mapping[str, float]) -> dict[str, int]:
        raise StorageError("nobody hands out places")

    # Hosts that may be private are not counted, so the one asked must not be of those.
    policy = FetchPolicy(timeout_s=20, robots=False)
    broken = FetchLoop(policy, lambda: BudgetedHosts(exchange))
    urls = [(PlannedInput(key=f"{n}", size=0, version=""), "http://93.184.216.34/a") for n in "ab"]
    for _ in range(2):
        with pytest.raises(StorageError, match="nobody hands out places"):
            in_time(lambda: list(broken.fetch(urls)))
    broken.close()
    assert origin.calls == []


def test_hosts_that_cannot_be_opened_are_told(recwarn: pytest.WarningsRecorder) -> None:
    def fail() -> BudgetedHosts:
        raise StorageError("no hosts")

    with pytest.raises(StorageError, match="no hosts"):
        in_time(lambda: FetchLoop(LOCAL, fail))
    assert not recwarn


def held_back(
    origin: FaultOrigin, loop: FetchLoop, paths: list[str]
) -> Iterator[tuple[PlannedInput, int]]:
    for item, fetched in loop.fetch(inputs(origin, *paths)):
        assert fetched.data is not None
        yield item, len(fetched.data)


def test_no_request_is_begun_while_too_much_is_unread(
    origin: FaultOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"/id/{number}" for number in range(60)]
    sizes = {path: len(picture(path)) for path in paths}
    most = 5 * max(sizes.values())
    monkeypatch.setattr(fetch_loop, "_UNREAD_BYTES", most)
    policy = FetchPolicy(
        timeout_s=20, in_flight=3, robots=False, allow_private_hosts=("127.0.0.1",)
    )
    loop = FetchLoop(policy, plenty)
    answers = held_back(origin, loop, paths)
    taken = 0
    for _ in paths:
        _, size = next(answers)
        taken += size
        # Give it time to run ahead, as far as it will: until it has begun nothing for a while.
        settled(origin)
        ahead = sum(sizes[call.target] for call in origin.calls) - taken
        # What was under way when the room was used up still comes.
        assert ahead <= most + 3 * max(sizes.values())
    assert list(answers) == []
    loop.close()
    assert len(origin.calls) == len(paths)


def ended(origin: FaultOrigin, left: int = 0) -> None:
    """Wait until no request is under way any more."""
    while origin.busy > left:
        threading.Event().wait(0.01)


def settled(origin: FaultOrigin) -> None:
    """Wait until no request comes any more."""
    quiet = threading.Event()
    count = -1
    while count != len(origin.calls):
        count = len(origin.calls)
        quiet.wait(0.03)


def test_room_that_was_taken_by_nobody_is_given_back(
    origin: FaultOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_loop, "_UNREAD_BYTES", 1)
    loop = FetchLoop(LOCAL, plenty)
    for _ in range(3):
        left = loop.fetch(inputs(origin, *(f"/id/{number}" for number in range(20))))
        next(left)
        settled(origin)
        left.close()  # type: ignore[attr-defined]  # a generator
    again = in_time(lambda: list(loop.fetch(inputs(origin, "/id/1", "/id/2"))))
    assert len(again) == 2
    loop.close()
