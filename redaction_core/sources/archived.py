"""Members of one tar or zip file, or the records of a CIFAR-10 archive."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from redaction_core.archives import MemberReader, label_and_split, open_archive
from redaction_core.errors import Failure, InputError
from redaction_core.plan import PlannedInput
from redaction_core.scratch import scratch_database
from redaction_core.sources.source import Content, Details, failed, image_id
from redaction_core.storage import Store

_BATCH = 10_000
"""Members written to the database, and taken from it, at a time."""
_MEMBER = pa.schema(
    [
        pa.field("number", pa.int64()),
        pa.field("name", pa.string()),
        pa.field("place", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("problem", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("label", pa.string()),
        pa.field("split", pa.string()),
    ]
)
_IN_PLACE = """
    select *, row_number() over (partition by name order by number) - 1 as repeat
    from members order by number
"""


@dataclass(frozen=True, kw_only=True)
class ArchiveSource:
    """The members of one archive, in their order there: a packed one is unpacked once a worker."""

    store: Store
    key: str
    max_bytes: int
    tree: bool = True
    """Folders `train/<label>/` and `test/<label>/` say label and split."""

    labels = True
    at_once = 1
    """Two at once would send each other back and forth in a packed file."""

    @property
    def location(self) -> str:
        """See `Source.location`."""
        return f"{self.store.location.rstrip('/')}/{self.key}"

    @property
    def columns(self) -> Mapping[str, str]:
        """See `Source.columns`: none."""
        return {}

    def planned(self) -> Iterator[PlannedInput]:
        """See `Source.planned`."""
        version = self.store.entry(self.key).version
        with scratch_database() as database:
            empty = _MEMBER.empty_table()
            database.register("rows", empty)
            database.execute("create table members as select * from rows")
            for rows in self._batches():
                database.register("rows", rows)
                database.execute("insert into members select * from rows")
            database.unregister("rows")
            found = database.execute(_IN_PLACE)
            names = [*_MEMBER.names, "repeat"]
            while some := found.fetchmany(_BATCH):
                for row in some:
                    yield self._planned(version, **dict(zip(names, row, strict=True)))

    def open(self) -> ArchiveReader:
        """See `Source.open`."""
        return ArchiveReader(self)

    def _batches(self) -> Iterator[pa.Table]:
        rows = []
        for number, each in enumerate(open_archive(self.store, self.key).members()):
            label, split = label_and_split(each.name) if self.tree else (None, None)
            rows.append(
                {
                    "number": number,
                    "name": each.name,
                    "place": each.place,
                    "size": each.size,
                    "problem": each.problem and str(each.problem),
                    "detail": each.detail,
                    "label": each.label or label,
                    "split": each.split or split,
                }
            )
            if len(rows) == _BATCH:
                yield pa.Table.from_pylist(rows, schema=_MEMBER)
                rows = []
        yield pa.Table.from_pylist(rows, schema=_MEMBER)

    def _planned(  # noqa: PLR0913 - a row of the database
        self,
        version: str,
        *,
        number: int,
        name: str,
        place: str,
        size: int,
        problem: str | None,
        detail: str | None,
        label: str | None,
        split: str | None,
        repeat: int,
    ) -> PlannedInput:
        details = Details(
            name=name,
            image_id=image_id(name, repeat),
            label=label,
            split=split,
            place=place or None,
        )
        return PlannedInput(
            key=f"{number:012}",
            size=size,
            version=version,
            failure=Failure(problem) if problem else None,
            detail=detail,
            extra=details.to_json(),
        )


class ArchiveReader:
    """Reads members of one archive, for several shards in turn."""

    def __init__(self, source: ArchiveSource) -> None:
        self._source = source
        self._members: MemberReader | None = None

    def contents(self, inputs: Sequence[PlannedInput]) -> Iterator[Content]:
        """See `Reader.contents`."""
        if self._members is None and inputs:
            source = self._source
            # All inputs of a plan have the archive's version.
            version = inputs[0].version
            self._members = MemberReader(source.store, source.key, version=version)
        left = []
        for item in inputs:
            if (known := failed(item)) is not None:
                yield known
            else:
                left.append(item)
        places = [Details.of(item).place or "" for item in left]
        if self._members is None:
            return
        started = time.perf_counter()
        found = self._members.read_many(places, max_bytes=self._source.max_bytes)
        for item, read in zip(left, found, strict=True):
            seconds, started = time.perf_counter() - started, time.perf_counter()
            if isinstance(read, InputError):
                yield Content(item=item, error=read, seconds=seconds)
                continue
            yield Content(
                item=item,
                data=read.data,
                pixels=read.pixels,
                received=len(read.data),
                seconds=seconds,
            )

    def close(self) -> None:
        """See `Reader.close`."""
        if self._members is not None:
            self._members.close()
