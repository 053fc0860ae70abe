"""List many folders of a bucket at once, in the order that one listing would have.

A page of 1,000 names takes a server some 0.1 s, one after the other 28 hours for a billion. All
names that begin with a folder's name stand together in the order of keys, so that folders can be
listed beside each other and put one behind the other.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from redaction_core.storage.store import Entry

AT_ONCE: Final = 16
"""Requests under way."""
_AT_MOST: Final = 8  # pages that are held of a folder before its turn
_FEW: Final = 2  # folders within the first page: they are large, and worth requests of their own


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One answer, in the byte order of its keys."""

    items: list[Entry | str]
    """Entries, and names of folders, with their slash, where they were asked for."""
    token: str | None
    """What to ask for the next page with; None: this is the last."""


class Pages(Protocol):
    """Asks for one page."""

    def __call__(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        """Get names that start with `prefix`; by folder, those below folders as the folder's."""


@dataclass(kw_only=True, slots=True)
class _Part:
    """Pages of one prefix that are still to come."""

    prefix: str
    token: str | None = None
    found: "Future[list[list[Entry] | _Part]] | None" = None


def listed(pages: Pages, prefix: str) -> Iterator[Entry]:
    """Yield all entries; holds no more than some pages a request under way."""
    to_do = deque(_read(pages, _Part(prefix=prefix)))  # most listings are a page
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        while to_do:
            parts = (each for each in to_do if isinstance(each, _Part))
            for each in islice(parts, AT_ONCE):
                each.found = each.found or pool.submit(_read, pages, each)
            first = to_do.popleft()
            if not isinstance(first, _Part):
                yield from first
            elif first.found is not None:
                to_do.extendleft(reversed(first.found.result()))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(pages: Pages, part: _Part) -> list[list[Entry] | _Part]:
    """Read some pages; gives their entries, and what else there is to read, in order."""
    found: list[list[Entry] | _Part] = []
    token = part.token
    for _ in range(_AT_MOST):
        page = pages(part.prefix, token, by_folder=False)
        if token is None and page.token and _few_folders(page, part.prefix):
            folders = pages(part.prefix, None, by_folder=True)
            # More than a page of folders may be small ones, which would cost a request each.
            page = page if folders.token else folders
        for item in page.items:
            if isinstance(item, str):
                found.append(_Part(prefix=item))
            elif found and isinstance(found[-1], list):
                found[-1].append(item)
            else:
                found.append([item])
        token = page.token
        if token is None:
            return found
    return [*found, _Part(prefix=part.prefix, token=token)]


def _few_folders(page: Page, prefix: str) -> bool:
    below = [item.key[len(prefix) :] for item in page.items if isinstance(item, Entry)]
    return 0 < len({name.partition("/")[0] for name in below if "/" in name}) <= _FEW
