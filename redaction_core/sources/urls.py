"""A list of URLs: planned in the order of hashes, fetched by one event loop a process."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from redaction_core.errors import Failure, InputError
from redaction_core.fetching import (
    LONGEST_URL,
    BudgetedHosts,
    FetchPolicy,
    HostBudget,
    host_of,
    local_exchange,
    printable_url,
)
from redaction_core.plan import PlannedInput
from redaction_core.sources.fetch_loop import FetchLoop
from redaction_core.sources.row_index import Row, RowIndex
from redaction_core.sources.source import Content, Details, failed
from redaction_core.url_lists import UrlList, open_url_list


@dataclass(frozen=True, kw_only=True)
class UrlSource:
    """The URLs of one list.

    Inputs are in the order of their ids, which are hashes: every shard has its share of every
    host, so that no worker is left with one slow host alone.
    """

    location: str
    """Of the list."""
    policy: FetchPolicy
    open_hosts: Callable[[], BudgetedHosts] | None = None
    """Called in the event loop of each worker; None: this process alone hands out places."""
    list_column: str | None = None
    """Name of the column with the URLs; None: the usual ones are tried."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Names of carried columns in the data set, where they differ from those in the list."""

    labels = False
    """A list's label is a carried column."""
    at_once = 16
    """Most of them wait for their last answers, which may take a URL's whole time."""

    @property
    def columns(self) -> Mapping[str, str]:
        """See `Source.columns`."""
        return {self.renamed.get(name, name): kind for name, kind in self._list.columns.items()}

    @cached_property
    def _list(self) -> UrlList:
        return open_url_list(self.location, column=self.list_column)

    def planned(self) -> Iterator[PlannedInput]:
        """See `Source.planned`."""
        with self.index() as index:
            for row in index.by_id():
                yield _planned(row)

    def open(self) -> UrlReader:
        """See `Source.open`."""
        return UrlReader(self)

    def index(self) -> AbstractContextManager[RowIndex]:
        """Read the list, and give every URL its id."""
        return RowIndex.of(row for batch in self._list.batches() for row in self._rows(batch))

    def _rows(self, batch: pa.Table) -> Iterator[tuple[str, str]]:
        # By place: a list may itself have columns named as the first and the last one here.
        urls, *carried, problems = (column.to_pylist() for column in batch.columns)
        names = [self.renamed.get(name, name) for name in self._list.columns]
        columns = zip(*carried, strict=True) if carried else [()] * len(urls)
        for url, values, problem in zip(urls, columns, problems, strict=True):
            found = {
                name: _without_credentials(value)
                for name, value in zip(names, values, strict=True)
                if value is not None
            }
            yield url or "", json.dumps([problem, found], ensure_ascii=False)

    def most_of_a_host(self) -> int:
        """Count the URLs of the host that has most, of those whose rate is limited."""
        hosts: Counter[str] = Counter()
        for batch in self._list.batches():
            hosts.update(filter(None, (host_of(url or "") for url in batch.column(0).to_pylist())))
        free = self.policy.free_hosts
        return max((count for host, count in hosts.items() if host not in free), default=0)


class UrlReader:
    """Fetches the URLs of a list, those of several shards at once."""

    def __init__(self, source: UrlSource) -> None:
        self._source = source
        self._loop = FetchLoop(source.policy, source.open_hosts or _own_hosts)
        self._opened = ExitStack()
        self._secrets: RowIndex | None = None
        self._reading = threading.Lock()

    def contents(self, inputs: Sequence[PlannedInput]) -> Iterator[Content]:
        """See `Reader.contents`."""
        urls: list[tuple[PlannedInput, str]] = []
        for item in inputs:
            details = Details.of(item)
            url = self._secret(item.key) if details.secret else details.name
            if (known := failed(item)) is not None:
                yield known
            elif url is None:
                detail = "the list has changed since the run was planned"
                error = InputError(Failure.INPUT_CHANGED, detail)
                yield Content(item=item, error=error, attempts=0)
            else:
                urls.append((item, url))
        for item, fetched in self._loop.fetch(urls):
            refused: InputError | None = None
            if fetched.failure is not None:
                refused = InputError(fetched.failure, fetched.detail or "")
            yield Content(
                item=item,
                data=fetched.data or b"",
                error=refused,
                http_status=fetched.http_status,
                attempts=fetched.attempts,
                received=fetched.bytes,
                seconds=fetched.seconds,
            )

    def close(self) -> None:
        """See `Reader.close`."""
        self._loop.close()
        self._opened.close()

    def _secret(self, key: str) -> str | None:
        """Look up a URL that the plan must not hold, in the list itself."""
        with self._reading:
            if self._secrets is None:
                self._secrets = self._opened.enter_context(self._source.index())
            row = self._secrets.find(key)
        return None if row is None else row.name


def _own_hosts() -> BudgetedHosts:
    return BudgetedHosts(local_exchange(HostBudget(connections=8, rate=10.0)))


def _planned(row: Row) -> PlannedInput:
    problem, columns = json.loads(row.payload)
    if len(row.name) > LONGEST_URL:
        problem = f"longer than {LONGEST_URL} characters"
    shown = printable_url(row.name[:LONGEST_URL])
    version = hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]
    item = PlannedInput(key=row.image_id, size=0, version=version)
    details = Details(name=shown, columns=columns)
    if problem is not None:
        item = replace(item, failure=Failure.BAD_URL, detail=problem)
    elif shown != row.name:
        details = replace(details, secret=True)
    return replace(item, extra=details.to_json())


def _without_credentials(value: Any) -> Any:  # noqa: ANN401 - any carried value
    is_url = isinstance(value, str) and value.startswith(("http://", "https://"))
    return printable_url(value) if is_url else value
