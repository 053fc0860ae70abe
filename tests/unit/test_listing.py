"""Many folders listed at once: the same entries as one listing has, each once."""

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from redaction_core.storage import Entry
from redaction_core.storage.listing import Page, listed

FOLDERS = ("a", "a-", "a/b", "a/b/c", "a0", "ü", "z")


class Server:
    """Answers in pages of so many names, as S3 does, and counts them."""

    def __init__(self, keys: set[str], page: int) -> None:
        self.keys, self.page = sorted(keys), page
        self.asked: list[tuple[str, str | None, bool]] = []

    def pages(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        self.asked.append((prefix, token, by_folder))
        names: dict[str, Entry | str] = {}
        for key in self.keys:
            if key.startswith(prefix):
                folder, slash, _ = key[len(prefix) :].partition("/")
                name = prefix + folder + slash if by_folder and slash else key
                names[name] = name if name.endswith("/") else Entry(key=key)
        left = [name for name in names if token is None or name > token]
        some = left[: self.page]
        more = some[-1] if len(left) > len(some) else None
        entries = [each for name in some if isinstance(each := names[name], Entry)]
        folders = [name for name in some if isinstance(names[name], str)]
        return Page(entries=entries, folders=folders, token=more)


def keys_of(server: Server, prefix: str = "") -> list[str]:
    return sorted(entry.key for entry in listed(server.pages, prefix))


@pytest.mark.parametrize("page", [1, 2, 7, 100])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "none/"])
def test_nothing_is_lost_or_doubled(page: int, prefix: str) -> None:
    draw = random.Random(page)
    for count in (0, 1, 5, 60):
        keys = {f"{draw.choice(FOLDERS)}/{draw.randrange(99)}" for _ in range(count)}
        keys |= {str(draw.randrange(99)) for _ in range(count // 10)}
        server = Server(keys, page)

        assert keys_of(server, prefix) == [key for key in server.keys if key.startswith(prefix)]


def test_large_folders_are_listed_at_once() -> None:
    server = Server({f"{folder}/{n}" for folder in "abcd" for n in range(10, 20)}, 10)
    together = Barrier(4)

    def pages(prefix: str, token: str | None, *, by_folder: bool) -> Page:
        if prefix:
            together.wait(timeout=30)
        return server.pages(prefix, token, by_folder=by_folder)

    assert sorted(entry.key for entry in listed(pages, "")) == server.keys


def test_small_folders_cost_no_requests_of_their_own() -> None:
    server = Server({f"{folder}/{n}" for folder in range(100) for n in range(3)}, 30)

    assert keys_of(server) == server.keys
    assert len(server.asked) == 10


def test_small_folders_behind_a_large_one_cost_no_requests_of_their_own() -> None:
    server = Server({f"a/{n}" for n in range(50)} | {f"b{n}/1" for n in range(1000)}, 30)

    assert keys_of(server) == server.keys
    assert len(server.asked) == 1 + 1050 / 30


def test_one_page_costs_one_request_and_a_listing_may_end_early() -> None:
    server = Server(set("abc"), 3)
    assert keys_of(server) == ["a", "b", "c"]
    assert len(server.asked) == 1

    server = Server({f"{folder}/{n:04}" for folder in "abcdefgh" for n in range(1000)}, 10)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: next(listed(server.pages, ""))).result(timeout=30)
    assert first.key in server.keys
    assert len(server.asked) < 200


def test_an_error_of_a_folder_is_raised() -> None:
    server = Server({f"{folder}/{n}" for folder in "abcd" for n in range(10)}, 10)

    def pages(prefix: str, token: str | None, *, by_folder: bool) -> Page:
        if prefix == "c/":
            raise OSError("gone")
        return server.pages(prefix, token, by_folder=by_folder)

    with pytest.raises(OSError, match="gone"):
        list(listed(pages, ""))
