"""Search Openverse for images, and write the list of their URLs that ingest reads."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jobs._command import print_result, run_command, say
from redaction_core.discovery.limits import (
    ANONYMOUS_PAGE_SIZE,
    ANONYMOUS_PER_DAY,
    ANONYMOUS_PER_MINUTE,
    API,
    APPLICATION_PER_DAY,
    APPLICATION_PER_MINUTE,
    DEPTH,
    LARGEST_DEPTH,
    LARGEST_PAGE_SIZE,
    LONGEST_QUERY,
)
from redaction_core.errors import InputError, ObjectMissingError, UsageError

if TYPE_CHECKING:
    from redaction_core.discovery.openverse import Credentials, Manners
    from redaction_core.discovery.search import Done, Search
    from redaction_core.discovery.url_list import UrlList
    from redaction_core.storage import Store

License = Literal[
    "by",
    "by-sa",
    "by-nd",
    "by-nc",
    "by-nc-sa",
    "by-nc-nd",
    "cc0",
    "pdm",
    "sampling+",
    "nc-sampling+",
]
NOTE = "Licences are as Openverse reports them: check each at its source before you use an image."
_LONGEST_FILE = 2**24  # bytes
_REPORT_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Discover:
    """Search Openverse for openly licensed images, and write the list of their URLs.

    The list is OUTPUT/urls.parquet: url, title, creator, licence, source and more, for
    `jobs.ingest --urls`. Licences are as Openverse reports them: check them at their source.
    Without credentials the service allows 20 requests a minute, 200 a day and 20 results a page;
    with OPENVERSE_CLIENT_ID and OPENVERSE_CLIENT_SECRET in the environment 100, 10,000 and 50.
    Either way it shows the first 240 results of a query. The same command again goes on where it
    was interrupted, and asks for no page twice.
    """

    output: str
    """Where to write: a folder or prefix of its own."""
    queries: tuple[str, ...] = ()
    """What to search for, each query a text of its own."""
    queries_file: str | None = None
    """Location of a text file with further queries, one a line."""
    license: tuple[License, ...] = ()
    """Licences to search for; default: all."""
    limit_per_query: int = DEPTH
    """Results taken of a query; more than 240 only where Openverse has granted you more."""
    page_size: int = ANONYMOUS_PAGE_SIZE
    """Results a request; more than 20 needs credentials."""
    format: Literal["parquet", "jsonl"] = "parquet"
    """Format of the list."""
    api: str = API
    """Address of the service."""
    contact: str | None = None
    """E-mail address or URL where the service can reach you; goes into the User-Agent."""
    requests_per_minute: float | None = None
    """Pace; default: 20, with credentials 100, and slower where the service says so."""
    max_wait_s: float = 120
    """Seconds to wait at most when the service asks for it; a longer wait ends the run (1)."""
    extend: bool = False
    """Add queries that are new, behind those of the earlier run."""
    dry_run: bool = False
    """Print how much there is to ask, and ask and write nothing."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        if not self.queries and self.queries_file is None:
            raise UsageError("nothing to search for: give --queries or --queries-file")
        if not 1 <= self.limit_per_query <= LARGEST_DEPTH:
            raise UsageError(f"--limit-per-query {self.limit_per_query}: 1 to {LARGEST_DEPTH}")
        if not 1 <= self.page_size <= LARGEST_PAGE_SIZE:
            raise UsageError(f"--page-size {self.page_size}: 1 to {LARGEST_PAGE_SIZE}")
        # Written so that neither infinity nor "nan" passes.
        if not 0 < (self.requests_per_minute or 1) < math.inf or self.requests_per_minute == 0:
            raise UsageError(f"--requests-per-minute {self.requests_per_minute}: above 0")
        if not 0 <= self.max_wait_s < math.inf:
            raise UsageError(f"--max-wait-s {self.max_wait_s}: 0 or more")


def discover(config: Discover) -> int:
    """Run the job; gives the exit code."""
    from redaction_core.discovery.openverse import Credentials, Manners, checked_api, user_agent
    from redaction_core.discovery.search import Search, adopt
    from redaction_core.storage import open_store

    started = time.monotonic()
    credentials = Credentials.of_environment()
    _check_rights(config, credentials)
    user_agent(config.contact)
    search = Search(
        api=checked_api(config.api),
        queries=_queries(config),
        license=tuple(sorted(set(config.license))),
        limit_per_query=config.limit_per_query,
        page_size=config.page_size,
        format=config.format,
    )
    store = open_store(config.output)
    store.check()
    adopt(store, search, extend=config.extend, dry_run=config.dry_run)
    if config.dry_run:
        print_result(_plan(search, store, credentials))
        return 0
    manners = Manners(
        contact=config.contact,
        requests_per_minute=config.requests_per_minute,
        max_wait_s=config.max_wait_s,
    )
    urls, done, requests = asyncio.run(_collect(search, store, manners, credentials))
    store.sweep()
    print_result(
        {
            "verb": "discover",
            "status": "complete",
            "output": f"{store.location}/{search.list_key}",
            "queries": done.queries,
            "queries_without_results": done.without_results,
            "results": done.results,
            "urls": urls.rows,
            "duplicates": urls.duplicates,
            "unusable": urls.unusable,
            "requests": requests,
            "seconds": round(time.monotonic() - started, 1),
            "note": NOTE,
        }
    )
    return 0


async def _collect(
    search: Search, store: Store, manners: Manners, credentials: Credentials | None
) -> tuple[UrlList, Done, int]:
    from redaction_core.discovery.openverse import open_api
    from redaction_core.discovery.search import collect

    progress = _Progress(len(search.queries))
    async with open_api(search.api, manners, credentials=credentials, say=say) as api:
        urls, done = await collect(search, store, api, progress.tell)
        return urls, done, api.requests


def _check_rights(config: Discover, credentials: Credentials | None) -> None:
    if credentials is not None:
        return
    needs = "needs OPENVERSE_CLIENT_ID and OPENVERSE_CLIENT_SECRET in the environment"
    if config.page_size > ANONYMOUS_PAGE_SIZE:
        raise UsageError(f"--page-size above {ANONYMOUS_PAGE_SIZE} {needs}")
    if config.limit_per_query > DEPTH:
        raise UsageError(f"--limit-per-query above {DEPTH} {needs}")


def _queries(config: Discover) -> tuple[str, ...]:
    """Take queries from flags, then those of the file, each once; blank ones are left out."""
    texts = [*config.queries, *(_lines(config.queries_file) if config.queries_file else [])]
    queries = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    for query in queries:
        if not query.isprintable():
            raise UsageError(f"a query with control characters: {query!a}")
        if len(query) > LONGEST_QUERY:
            raise UsageError(f"a query of more than {LONGEST_QUERY} characters: {query[:40]}...")
    if not queries:
        raise UsageError("nothing to search for: all queries are blank")
    return queries


def _lines(location: str) -> list[str]:
    from redaction_core.storage import open_file

    store, key = open_file(location)
    try:
        return store.read(key, max_bytes=_LONGEST_FILE).data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"--queries-file: {key} in {store.location} is not UTF-8") from error
    except (ObjectMissingError, InputError) as error:
        raise UsageError(f"--queries-file: {error}") from error


def _plan(search: Search, store: Store, credentials: Credentials | None) -> dict[str, Any]:
    """Count what there may be to ask: how far each query goes, only its first page tells."""
    from redaction_core.discovery.search import PAGES

    numbers = range(1, search.most_pages + 1)
    pages = {search.page_key(query, number) for query in search.queries for number in numbers}
    stored = sum(entry.key in pages for entry in store.list(PAGES, missing_ok=True))
    per_minute, per_day = (
        (APPLICATION_PER_MINUTE, APPLICATION_PER_DAY)
        if credentials
        else (ANONYMOUS_PER_MINUTE, ANONYMOUS_PER_DAY)
    )
    plan = {
        "verb": "discover",
        "dry_run": True,
        "queries": len(search.queries),
        "pages_stored": stored,
        "requests_at_most": len(pages) - stored,
        "requests_per_minute": per_minute,
        "requests_per_day": per_day,
        "output": f"{store.location}/{search.list_key}",
    }
    for name, value in plan.items():
        say(f"{name:>20}  {value}")
    return plan


class _Progress:
    """Queries, results and pace on stderr, every few seconds."""

    def __init__(self, queries: int) -> None:
        self._queries = queries
        self._said = time.monotonic()

    def tell(self, done: Done) -> None:
        """Say how far it is, unless that was said just now."""
        now = time.monotonic()
        if now - self._said < _REPORT_EVERY_S and done.queries < self._queries:
            return
        self._said = now
        say(
            f"discover: {done.queries} of {self._queries} queries, {done.results} results, "
            f"{done.pages_asked} pages asked for, {done.pages_stored} stored before"
        )


if __name__ == "__main__":
    run_command(Discover, discover)
