"""Lists of URLs as batches of rows: txt, csv, tsv, jsonl (each also as gzip) and Parquet.

text      lines, csv and JSON lines to rows, however broken
parquet   Parquet to rows, and how its types are carried

A row that cannot be read is a row with a null URL and a `problem`, so that the rows of the batches
are the inputs, always. Memory is bounded by a batch and by the longest line, 1 MiB.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal, TypeAlias, cast

import pyarrow as pa
from isal import igzip, igzip_lib

from redaction_core.errors import InputError, ObjectMissingError, UsageError
from redaction_core.storage import Store, open_file
from redaction_core.url_lists import parquet, text

_Format: TypeAlias = Literal["txt", "csv", "tsv", "jsonl", "parquet"]

_SUFFIXES: Final[dict[str, _Format]] = {
    "txt": "txt",
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
}
_URL_COLUMNS: Final = ("url", "image_url", "link", "src")
_HEAD_BYTES: Final = 2**16
_MOST_COLUMNS: Final = 1000
# Its stub declares an exception, and no class of them.
_GZIP_ERROR: Final = cast("type[Exception]", igzip_lib.IsalError)
_PARQUET: Final = b"PAR1"
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class UrlList:
    """A list that was looked into: which column has the URLs, and what else is carried."""

    url_column: str
    columns: dict[str, str]
    """The carried columns in the order of the file, without that of the URLs: name to "string",
    "int64", "float64" or "bool"."""
    store: Store
    key: str
    format: _Format

    @property
    def location(self) -> str:
        """Where it lies, normalised and without credentials."""
        return _shown(self.store, self.key)

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in the order of the file, as often as asked for.

        Columns: `url` (string, stripped; null or empty where the row has none), the carried ones
        with their types, and last `problem` (string; null where the row could be read). A file
        may itself carry a column of one of the two names.

        Raises:
            UsageError: the rest of the file cannot be read (damaged gzip or Parquet).
            StorageError: the storage fails.
        """
        with _reading(self.store, self.key) as stream:
            if self.format == "parquet":
                yield from parquet.batches(stream, self.url_column, self.columns)
            else:
                names = [self.url_column, *self.columns]
                yield from text.batches(stream, self.format, self.url_column, names)


def open_url_list(location: str, *, column: str | None = None) -> UrlList:
    """Find the format by content, then by suffix; the URL column by name, if not given.

    That is the first of "url", "image_url", "link" and "src" in any case, else the only column.
    In JSON lines, the fields are those of the first 1,000 lines; others that come later are left
    out.

    Raises:
        UsageError: no such file, in no such format, without such a column, or without rows.
        StorageError: the storage fails.
    """
    store, key = open_file(location)
    with _reading(store, key) as stream:
        head = stream.read(_HEAD_BYTES)
        kind = _format(key, head)
        stream.seek(0)
        if kind == "parquet":
            types = parquet.types(stream)
        else:
            types = dict.fromkeys(text.names(stream, kind), "string")
        if len(types) > _MOST_COLUMNS:
            raise UsageError(f"{len(types)} columns; the most is {_MOST_COLUMNS}")
        chosen = _url_column(list(types), column)
        if types[chosen] not in ("string", "binary"):
            raise UsageError(f"column {chosen!r} holds {types[chosen]}, and no URLs")
    carried = {
        name: kind for name, kind in types.items() if name != chosen and kind in parquet.CARRIED
    }
    found = UrlList(url_column=chosen, columns=carried, store=store, key=key, format=kind)
    if next(found.batches(), None) is None:
        raise UsageError(f"no URLs in {_shown(store, key)}: the list is empty")
    return found


@contextmanager
def _reading(store: Store, key: str) -> Iterator[BinaryIO]:
    """Open it, unpacked; whatever is wrong with the file is an error of usage."""
    where = _shown(store, key)
    try:
        with store.open(key) as file:
            packed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            if not packed:
                yield file
                return
            with igzip.open(file, "rb") as unpacked:  # type: ignore[no-untyped-call]
                yield cast("BinaryIO", unpacked)
    except ObjectMissingError as error:
        raise UsageError(str(error)) from error
    except InputError as error:
        raise UsageError(f"cannot read {where}: {error.detail}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    except (EOFError, _GZIP_ERROR) as error:
        raise UsageError(f"{where} is damaged or ends early: unpacking it fails") from error
    except (pa.ArrowException, OSError) as error:  # Arrow's for files that are damaged, gzip's too
        reason = str(error).partition("\n")[0][:200]
        raise UsageError(f"{where} cannot be read on: {reason}") from error


def _shown(store: Store, key: str) -> str:
    return f"{store.location.rstrip('/')}/{key}"


def _format(key: str, head: bytes) -> _Format:
    if head.startswith(_PARQUET):
        return "parquet"
    if not head.strip():
        raise UsageError("the file is empty")
    if b"\0" in head:
        raise UsageError("neither text in UTF-8 nor Parquet")
    suffix = key.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix == "parquet":
        raise UsageError("not a Parquet file, whatever its name says")
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    start = head.removeprefix(text.BOM).lstrip()
    first = start.partition(b"\n")[0]
    if start.startswith((b"{", b"[")):
        return "jsonl"
    if b"://" in first or first.startswith(b"#"):
        return "txt"
    return "tsv" if b"\t" in first else "csv" if b"," in first else "txt"


def _url_column(names: Sequence[str], column: str | None) -> str:
    there = f"there are {', '.join(names)}" if len(names) > 1 else f"there is {names[0]}"
    if column is not None:
        if column not in names:
            raise UsageError(f"no column {column!r}; {there}")
        return column
    for wanted in _URL_COLUMNS:
        for name in names:
            if name.lower() == wanted:
                return name
    if len(names) == 1:
        return names[0]
    raise UsageError(f"no column is named {', '.join(_URL_COLUMNS)}; name one: {there}")
