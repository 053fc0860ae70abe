"""A folder or a prefix of image files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from redaction_core.archives import label_and_split
from redaction_core.errors import Failure, InputError, ObjectMissingError
from redaction_core.plan import PlannedInput
from redaction_core.sources.row_index import image_id
from redaction_core.sources.source import Content, Details, failed
from redaction_core.storage import Store


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """All files below one location, at any depth."""

    store: Store
    max_bytes: int
    tree: bool = True
    """Folders `train/<label>/` and `test/<label>/` say label and split."""

    at_once = 4
    """While one shard waits for storage, others are decoded."""

    @property
    def location(self) -> str:
        """See `Source.location`."""
        return self.store.location

    @property
    def columns(self) -> Mapping[str, str]:
        """See `Source.columns`: none."""
        return {}

    @property
    def renamed(self) -> Mapping[str, str]:
        """See `Source.renamed`: none."""
        return {}

    @property
    def labels(self) -> bool:
        """See `Source.labels`."""
        return self.tree

    def planned(self) -> Iterator[PlannedInput]:
        """See `Source.planned`."""
        for entry in self.store.list():
            label, split = label_and_split(entry.key) if self.tree else (None, None)
            yield PlannedInput(
                key=entry.key,
                size=entry.size,
                version=entry.version,
                failure=entry.problem,
                detail=entry.detail,
                extra=Details(
                    name=entry.key, image_id=image_id(entry.key), label=label, split=split
                ).to_json(),
            )

    def open(self) -> FileSource:
        """See `Source.open`: nothing to do."""
        return self

    def contents(self, inputs: Sequence[PlannedInput]) -> Iterator[Content]:
        """See `Reader.contents`."""
        with ThreadPoolExecutor(self.store.in_flight) as readers:
            left = iter(inputs)
            # Some at a time: what has been read and not yet been decoded is in memory.
            while some := list(islice(left, 4 * self.store.in_flight)):
                yield from readers.map(self._content, some)

    def close(self) -> None:
        """See `Reader.close`: nothing to do."""

    def _content(self, item: PlannedInput) -> Content:
        if (known := failed(item)) is not None:
            return known
        started = time.perf_counter()
        data, error = b"", None
        try:
            blob = self.store.read(item.key, max_bytes=self.max_bytes)
            if blob.version == item.version:
                data = blob.data
            else:
                error = InputError(Failure.INPUT_CHANGED, "changed since the run was planned")
        except ObjectMissingError:
            error = InputError(Failure.NOT_FOUND, "gone since the run was planned")
        except InputError as found:
            error = found
        seconds = time.perf_counter() - started
        return Content(item=item, data=data, error=error, received=len(data), seconds=seconds)
