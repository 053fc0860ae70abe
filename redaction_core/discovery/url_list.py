"""The list of URLs that a search ends with: columns, order, duplicates."""

import hashlib
import io
import json
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from redaction_core.discovery.answers import Result

URL_LIST: Final = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("creator", pa.string()),
        pa.field("creator_url", pa.string()),
        pa.field("license", pa.string(), nullable=False),  # by, by-sa, cc0, pdm, ...
        pa.field("license_version", pa.string()),
        pa.field("license_url", pa.string()),
        pa.field("source", pa.string()),
        pa.field("landing_url", pa.string()),  # the page that shows the image at its source
        pa.field("openverse_id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),  # the first that found it
        pa.field("width", pa.int32()),  # pixels, as the API reports them
        pa.field("height", pa.int32()),
    ]
)
"""One row a URL, in the order of the queries and of their results; no URL comes twice."""

_ROW_GROUP: Final = 65_536


class UrlList:
    """Takes results in their order; gives the bytes of the list, the same for the same results."""

    def __init__(self, kind: Literal["parquet", "jsonl"]) -> None:
        self.rows = 0
        self.duplicates = 0
        self.unusable = 0
        """Results without a URL that can be fetched."""
        self._seen: set[bytes] = set()
        self._waiting: list[dict[str, Any]] = []
        self._file = io.BytesIO()
        self._parquet = pq.ParquetWriter(self._file, URL_LIST) if kind == "parquet" else None

    def add(self, result: Result, query: str) -> None:
        """Append a row, unless its URL is in the list or there is none."""
        if result.url is None:
            self.unusable += 1
            return
        # Hashes, as URLs may be long.
        key = hashlib.blake2b(result.url.encode(), digest_size=16).digest()
        if key in self._seen:
            self.duplicates += 1
            return
        self._seen.add(key)
        self.rows += 1
        self._waiting.append(
            {
                "url": result.url,
                "title": result.title,
                "creator": result.creator,
                "creator_url": result.creator_url,
                "license": result.license,
                "license_version": result.license_version,
                "license_url": result.license_url,
                "source": result.source,
                "landing_url": result.foreign_landing_url,
                "openverse_id": result.id,
                "query": query,
                "width": result.width,
                "height": result.height,
            }
        )
        if len(self._waiting) >= _ROW_GROUP:
            self._flush()

    def finish(self) -> bytes:
        """Give the whole file; nothing can be added after it."""
        self._flush()
        if self._parquet is not None:
            self._parquet.close()
        return self._file.getvalue()

    def _flush(self) -> None:
        if self._parquet is None:
            for row in self._waiting:
                self._file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
        elif self._waiting:
            self._parquet.write_table(pa.Table.from_pylist(self._waiting, schema=URL_LIST))
        self._waiting = []
