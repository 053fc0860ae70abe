"""A search as it lies in storage: its plan, one object a page, and the list, which comes last.

discover.json                 what is searched for; a rerun with anything else is refused
pages/<request>/0001.json     the results of one page, as they were when it was asked for
urls.parquet                  the list, made of the pages alone
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from redaction_core.discovery.answers import Page
from redaction_core.discovery.limits import DEPTH, LARGEST_DEPTH
from redaction_core.discovery.openverse import Openverse
from redaction_core.discovery.url_list import UrlList
from redaction_core.errors import InputError, ObjectMissingError, UsageError
from redaction_core.plan import differences
from redaction_core.storage import Store

PLAN: Final = "discover.json"
PAGES: Final = "pages/"
_VERSION: Final = 1
_ELSEWHERE: Final = "choose another output"


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What is searched for, and how it is cut into pages."""

    api: str
    queries: tuple[str, ...]
    license: tuple[str, ...] = ()  # sorted; none: all
    limit_per_query: int = DEPTH
    page_size: int
    format: Literal["parquet", "jsonl"] = "parquet"

    @property
    def list_key(self) -> str:
        """Name of the list."""
        return f"urls.{self.format}"

    @property
    def most_pages(self) -> int:
        """So many pages of a query are asked for at most: none that reaches beyond the depth."""
        depth = DEPTH if self.limit_per_query <= DEPTH else LARGEST_DEPTH
        return min(-(-self.limit_per_query // self.page_size), max(1, depth // self.page_size))

    def page_key(self, query: str, page: int) -> str:
        """Name a page by all that its results depend on."""
        request = [self.api, query, self.license, self.page_size]
        digest = hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]
        return f"{PAGES}{digest}/{page:04d}.json"

    def to_json(self) -> bytes:
        """Write it as `discover.json`."""
        content = {"verb": "discover", "version": _VERSION, **asdict(self)}
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

    def extends(self, other: "Search") -> bool:
        """Say whether the only difference is further queries behind those of the other."""
        first = self.queries[: len(other.queries)]
        return first == other.queries and replace(self, queries=first) == other


@dataclass(kw_only=True)
class Done:
    """How far a search has come."""

    queries: int = 0
    results: int = 0
    without_results: int = 0  # queries that found nothing
    pages_asked: int = 0
    pages_stored: int = 0  # by an earlier run


def adopt(store: Store, search: Search, *, extend: bool = False, dry_run: bool = False) -> None:
    """Make this search the output's plan, or go on with the one that it has.

    Raises:
        UsageError: the output holds another search, or files but no search.
    """
    try:
        before = _planned(store)
    except ObjectMissingError:
        stands = store.any_of()
        if stands is not None:
            raise UsageError(
                f"{store.location} has {stands.key} but no {PLAN}: {_ELSEWHERE}"
            ) from None
        if dry_run or store.put_if_absent(PLAN, search.to_json()):
            return
        before = _planned(store)
    if search == before:
        return
    if not search.extends(before):
        fields = differences(_told(before), _told(search))
        raise UsageError(
            f"{store.location} holds another search ({'; '.join(fields)}): {_ELSEWHERE}"
        )
    if not extend:
        raise UsageError(
            f"{len(search.queries) - len(before.queries)} queries are new in {store.location}: "
            f"--extend adds them, or {_ELSEWHERE}"
        )
    if not dry_run:
        store.put(PLAN, search.to_json())


async def collect(
    search: Search,
    store: Store,
    api: Openverse,
    tell: Callable[[Done], None] = lambda _: None,
) -> tuple[UrlList, Done]:
    """Ask for the pages that are not stored, store them, and write the list of all, last.

    Raises:
        InputError: the API refuses or fails; what has been stored stays, and a rerun goes on.
        UsageError: a stored page is damaged.
        StorageError: storage fails.
    """
    done, urls = Done(), UrlList(search.format)
    for query in search.queries:
        left = search.limit_per_query
        for number in range(1, search.most_pages + 1):
            key = search.page_key(query, number)
            page = stored_page(store, key, number)
            if page is None:
                done.pages_asked += 1
                page = await api.search(
                    query, licenses=search.license, page=number, page_size=search.page_size
                )
                if not store.put_if_absent(key, page.to_json()):
                    # Another run was first; both then make the same list.
                    page = stored_page(store, key, number) or page
            else:
                done.pages_stored += 1
            taken = page.results[:left]
            left -= len(taken)
            done.results += len(taken)
            for result in taken:
                urls.add(result, query)
            tell(done)
            if not page.results or number >= page.page_count:
                break
        done.queries += 1
        done.without_results += left == search.limit_per_query
        tell(done)
    _write(store, search.list_key, urls.finish())
    return urls, done


def stored_page(store: Store, key: str, number: int) -> Page | None:
    """Read a page that an earlier run has stored; None if there is none.

    Raises:
        UsageError: it is damaged.
    """
    try:
        return Page.of_answer(store.read(key).data, number)
    except ObjectMissingError:
        return None
    except InputError as error:
        raise _damaged(store, key) from error


def _write(store: Store, key: str, data: bytes) -> None:
    """Write the list, unless it is there: who has planned with it sees no change."""
    try:
        if store.read(key).data == data:
            return
    except ObjectMissingError:
        pass
    store.put(key, data)


def _planned(store: Store) -> Search:
    try:
        found = json.loads(store.read(PLAN).data)
        if found.pop("verb") != "discover" or found.pop("version") != _VERSION:
            raise _damaged(store, PLAN)
        return _search(found)
    except (ValueError, TypeError, KeyError, AttributeError, InputError) as error:
        raise _damaged(store, PLAN) from error


def _search(found: dict[str, Any]) -> Search:
    values: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in found.items()
    }
    return Search(**values)


def _told(search: Search) -> dict[str, object]:
    """Show what differs in a line: queries by their number alone when they are many."""
    shown = asdict(search)
    digest = hashlib.sha256("\n".join(search.queries).encode()).hexdigest()[:8]
    return {**shown, "queries": f"{len(search.queries)} ({digest})"}


def _damaged(store: Store, key: str) -> UsageError:
    return UsageError(f"{key} in {store.location} is damaged: {_ELSEWHERE}")
