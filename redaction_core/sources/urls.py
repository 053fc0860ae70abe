"""A list of URLs: planned in the order of hashes, fetched by one event loop a process."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import pyarrow as pa

from redaction_core.errors import Failure, InputError
from redaction_core.fetching import (
    BudgetedHosts,
    FetchPolicy,
    HostBudget,
    host_of,
    local_exchange,
    printable_url,
)
from redaction_core.plan import PlannedInput
from redaction_core.scratch import scratch_database
from redaction_core.sources.fetch_loop import FetchLoop
from redaction_core.sources.source import Content, Details, failed, image_id
from redaction_core.url_lists import UrlList, open_url_list

_SORTED = 2_000
"""Rows taken from the sorted list at a time."""
_ROW = pa.schema(
    [
        pa.field("line", pa.int64()),
        pa.field("url", pa.string()),
        pa.field("problem", pa.string()),
        pa.field("columns", pa.string()),
    ]
)
# The ids are those of `source.image_id`.
_BY_ID = """
    select line, repeat, url, problem, columns,
        substr(sha256(url || chr(10) || repeat::varchar), 1, 32) as image_id
    from (select *, row_number() over (partition by url order by line) - 1 as repeat from list)
    order by image_id
"""


class _Row(NamedTuple):
    """A URL of the list, sorted."""

    line: int
    repeat: int
    url: str
    problem: str | None
    columns: str
    """JSON."""
    image_id: str


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
    at_once = 4
    """Where the last answers of one shard are waited for, others go on."""

    @property
    def columns(self) -> Mapping[str, str]:
        """See `Source.columns`."""
        return {self.renamed.get(name, name): kind for name, kind in self._list.columns.items()}

    @cached_property
    def _list(self) -> UrlList:
        return open_url_list(self.location, column=self.list_column)

    def planned(self) -> Iterator[PlannedInput]:
        """See `Source.planned`: sorted on disk, not in memory."""
        with scratch_database() as database:
            database.execute(
                "create table list (line bigint, url varchar, problem varchar, columns varchar)"
            )
            line = 0
            for batch in self._list.batches():
                database.register("rows", self._rows(line, batch))
                database.execute("insert into list select * from rows")
                database.unregister("rows")
                line += batch.num_rows
            found = database.execute(_BY_ID)
            while some := found.fetchmany(_SORTED):
                yield from (_planned(_Row(*row)) for row in some)

    def open(self) -> UrlReader:
        """See `Source.open`."""
        return UrlReader(self)

    def _rows(self, first: int, batch: pa.Table) -> pa.Table:
        """Put the carried columns into one, as JSON."""
        # By place: a list may itself have columns named as the first and the last one here.
        url, *carried, problem = (column.to_pylist() for column in batch.columns)
        names = [self.renamed.get(name, name) for name in self._list.columns]
        columns = [
            json.dumps(
                {
                    name: value
                    for name, value in zip(names, values, strict=True)
                    if value is not None
                },
                ensure_ascii=False,
            )
            for values in (zip(*carried, strict=True) if carried else [()] * len(url))
        ]
        lines = list(range(first, first + len(url)))
        return pa.Table.from_arrays(
            [
                pa.array(values, field.type)
                for values, field in zip(
                    (lines, [each or "" for each in url], problem, columns), _ROW, strict=True
                )
            ],
            schema=_ROW,
        )

    def most_of_a_host(self) -> int:
        """Count the URLs of the host that has most, of those whose rate is limited."""
        hosts: Counter[str] = Counter()
        for batch in self._list.batches():
            hosts.update(host_of(url or "") for url in batch.column(0).to_pylist())
        free = self.policy.free_hosts
        return max((count for host, count in hosts.items() if host not in free), default=0)

    def urls(self, lines: Collection[int]) -> dict[int, str]:
        """Read URLs from the list again, by line."""
        found: dict[int, str] = {}
        first = 0
        for batch in self._list.batches():
            column = batch.column(0)
            last = first + batch.num_rows
            found |= {
                line: column[line - first].as_py() or "" for line in lines if first <= line < last
            }
            first = last
            if len(found) == len(lines):
                break
        return found


class UrlReader:
    """Fetches the URLs of a list, those of several shards at once."""

    def __init__(self, source: UrlSource) -> None:
        self._source = source
        self._loop = FetchLoop(source.policy, source.open_hosts or _own_hosts)

    def contents(self, inputs: Sequence[PlannedInput]) -> Iterator[Content]:
        """See `Reader.contents`."""
        details = {item.key: Details.of(item) for item in inputs}
        lines = {each.secret[0] for each in details.values() if each.secret}
        secrets = self._source.urls(lines) if lines else {}
        urls: list[tuple[PlannedInput, str]] = []
        for item in inputs:
            url, repeat = details[item.key].name, None
            if (secret := details[item.key].secret) is not None:
                line, repeat = secret
                url = secrets.get(line, "")
            if (known := failed(item)) is not None:
                yield known
            elif repeat is not None and image_id(url, repeat) != item.key:
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
        """Close the connections."""
        self._loop.close()


def _own_hosts() -> BudgetedHosts:
    return BudgetedHosts(local_exchange(HostBudget(connections=8, rate=10.0)))


def _planned(row: _Row) -> PlannedInput:
    shown = printable_url(row.url)
    details = Details(name=shown, columns=json.loads(row.columns))
    version = hashlib.sha256(row.columns.encode()).hexdigest()[:16]
    item = PlannedInput(key=row.image_id, size=0, version=version)
    if shown != row.url:
        # What must not be written to the output is read from the list again.
        details = replace(details, secret=(row.line, row.repeat))
    if row.problem is not None:
        item = replace(item, failure=Failure.BAD_URL, detail=row.problem)
    return replace(item, extra=details.to_json())
