"""Lines, csv and JSON lines to rows; what is broken in them becomes a row with a problem."""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO, Final, NamedTuple, Self

import pyarrow as pa

from redaction_core.errors import UsageError

BOM: Final = b"\xef\xbb\xbf"
LONGEST_LINE: Final = 2**20  # bytes

_BATCH_ROWS: Final = 10_000
_BATCH_LETTERS: Final = 2**24
_SAMPLED_LINES: Final = 1000
_DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
_TOO_LONG: Final = f"a line of more than {LONGEST_LINE} bytes"
_NOT_UTF8: Final = "not UTF-8"
_OPEN_QUOTE: Final = "a quote that is not closed, or one too many"


class Row(NamedTuple):
    """Fields by column, or why there are none."""

    fields: dict[str, str | None]
    problem: str | None = None


def names(stream: BinaryIO, kind: str) -> list[str]:
    """Read the names of the columns: of the first line, or the fields of the first 1,000.

    Raises:
        UsageError: the first line is no header, or JSON is one array.
    """
    if kind == "txt":
        return ["url"]
    if kind in _DELIMITERS:
        return _header(_Records(_lines(stream), _DELIMITERS[kind]))
    found: dict[str, None] = {}
    for line in islice(_lines(stream), _SAMPLED_LINES):
        if not found and line is not None and line.lstrip().startswith(b"["):
            raise UsageError("a JSON array; write one object a line")
        found.update(dict.fromkeys(_json_row(line).fields))
    if not found:
        raise UsageError("no line is a JSON object")
    return list(found)


def batches(stream: BinaryIO, kind: str, url: str, columns: list[str]) -> Iterator[pa.Table]:
    """Yield tables of `url`, the other columns, and `problem`, all strings."""
    lines = _lines(stream)
    if kind == "txt":
        rows = _txt_rows(lines, url)
    elif kind == "jsonl":
        rows = (_json_row(line) for line in lines if line is None or line.strip())
    else:
        records = _Records(lines, _DELIMITERS[kind])
        rows = _csv_rows(records, _header(records), url)
    carried = [name for name in columns if name != url]
    labels = ["url", *carried, "problem"]
    while True:
        values: list[list[str | None]] = [[] for _ in labels]
        letters = 0
        for row in rows:
            found = row.fields.get(url)
            fields = (found and found.strip(), *map(row.fields.get, carried), row.problem)
            for column, value in zip(values, fields, strict=True):
                column.append(value)
                letters += len(value or "")
            if len(values[0]) == _BATCH_ROWS or letters > _BATCH_LETTERS:
                break
        if not values[0]:
            return
        yield pa.table([pa.array(column, pa.string()) for column in values], names=labels)


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines with their ends; None for one that is too long."""
    first = True
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield None
        else:
            yield line.removeprefix(BOM) if first else line
        first = False


def _txt_rows(lines: Iterable[bytes | None], url: str) -> Iterator[Row]:
    for line in lines:
        if line is None:
            yield Row({}, _TOO_LONG)
        elif (bare := line.strip()) and not bare.startswith(b"#"):
            try:
                yield Row({url: bare.decode()})
            except UnicodeDecodeError:
                yield Row({}, _NOT_UTF8)


def _json_row(line: bytes | None) -> Row:
    if line is None:
        return Row({}, _TOO_LONG)
    try:
        # Numbers stay as they are written.
        found = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
        if not isinstance(found, dict):
            return Row({}, "not a JSON object")
        nested = any(isinstance(value, (dict, list)) for value in found.values())
        whole = json.loads(line) if nested else found
        fields = {
            _encodable(name): _json_text(whole[name] if isinstance(value, (dict, list)) else value)
            for name, value in found.items()
        }
    except UnicodeDecodeError:
        return Row({}, _NOT_UTF8)
    except (ValueError, RecursionError):
        return Row({}, "not JSON")
    return Row(fields)


def _json_text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _encodable(text)


def _encodable(text: str) -> str:
    """JSON can escape half a surrogate pair, which no encoding has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class _Records:
    """An iterator of decoded lines for csv.reader, which can take back those of a record."""

    def __init__(self, lines: Iterator[bytes | None], delimiter: str) -> None:
        self._lines = lines
        self._again: deque[bytes | None] = deque()
        self._record: list[bytes | None] = []
        self._reader = csv.reader(self, delimiter=delimiter)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        if line is None and self._record:
            self._again.appendleft(None)
            raise csv.Error(_OPEN_QUOTE)
        self._record.append(line)
        if line is None:
            raise csv.Error(_TOO_LONG)
        return line.decode(errors="surrogateescape")

    def read(self) -> tuple[list[str], str | None] | None:
        """Read the fields of the next record, or what is wrong with it; None at the end."""
        self._record = []
        try:
            fields = next(self._reader)
        except StopIteration:
            return None
        except csv.Error as error:
            return [], str(error)
        if len(self._record) > 1 and sum(line.count(b'"') for line in self._record if line) % 2:
            return [], _OPEN_QUOTE
        return fields, None

    def take_back(self) -> None:
        """Read all but the first line of the last record again."""
        self._again.extendleft(reversed(self._record[1:]))


def _header(records: _Records) -> list[str]:
    fields: list[str] = []
    while not any(fields):
        found = records.read()
        if found is None:
            raise UsageError("no line names the columns")
        fields, problem = found
        if problem:
            raise UsageError(f"the line of column names cannot be read: {problem}")
    try:
        "".join(fields).encode()
    except UnicodeEncodeError as error:
        raise UsageError("the names of the columns are not UTF-8") from error
    if any("://" in field for field in fields):
        raise UsageError("the first line holds a URL where the names of the columns are needed")
    # Tables written with an index have a column without a name.
    fields = [field.strip() or f"column_{at}" for at, field in enumerate(fields, 1)]
    if len(set(fields)) < len(fields):
        twice = next(field for field in fields if fields.count(field) > 1)
        raise UsageError(f"two columns are named {twice!r}")
    return fields


def _csv_rows(records: _Records, header: list[str], url: str) -> Iterator[Row]:
    at = header.index(url)
    while (found := records.read()) is not None:
        fields, problem = found
        if problem is None:
            if not fields:  # a blank line
                continue
            if len(fields) != len(header):
                problem = f"{len(fields)} fields, the first line has {len(header)}"
            elif "\n" in fields[at].strip():
                problem = _OPEN_QUOTE
            elif not _is_utf8(fields):
                yield Row({}, _NOT_UTF8)
                continue
        if problem is None:
            yield Row(dict(zip(header, fields, strict=True)))
        else:
            # A stray quote swallows the lines after it, which may be whole.
            records.take_back()
            yield Row({}, problem)


def _is_utf8(fields: Iterable[str]) -> bool:
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return False
    return True
