"""Members of one tar or zip file, or the records of a CIFAR-10 archive."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from redaction_core.archives import MemberReader, label_and_split, open_archive
from redaction_core.errors import Failure, InputError
from redaction_core.plan import PlannedInput
from redaction_core.sources.row_index import Row, RowIndex
from redaction_core.sources.source import Content, Details, failed
from redaction_core.storage import Store


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

    @property
    def renamed(self) -> Mapping[str, str]:
        """See `Source.renamed`: none."""
        return {}

    def planned(self) -> Iterator[PlannedInput]:
        """See `Source.planned`."""
        version = self.store.entry(self.key).version
        with RowIndex.of(self._rows()) as index:
            for row in index.in_place():
                yield self._planned(row, version)

    def open(self) -> ArchiveReader:
        """See `Source.open`."""
        return ArchiveReader(self)

    def _rows(self) -> Iterator[tuple[str, str]]:
        for each in open_archive(self.store, self.key).members():
            yield each.name, json.dumps(asdict(each))

    def _planned(self, row: Row, version: str) -> PlannedInput:
        member = json.loads(row.payload)
        label, split = label_and_split(row.name) if self.tree else (None, None)
        details = Details(
            name=row.name,
            image_id=row.image_id,
            label=member["label"] or label,
            split=member["split"] or split,
            place=member["place"],
        )
        return PlannedInput(
            key=f"{row.number:012}",
            size=member["size"],
            version=version,
            failure=Failure(member["problem"]) if member["problem"] else None,
            detail=member["detail"],
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
