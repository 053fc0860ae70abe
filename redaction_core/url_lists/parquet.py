"""Parquet to rows: which types are carried, and as what.

Integers are carried as int64, floating-point and decimal numbers as float64, booleans as they are,
and text, dates, times and unsigned 64-bit integers as strings (points in time in UTC). Binary and
nested columns are left out.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redaction_core.errors import UsageError

CARRIED: Final = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}
"""The types of carried columns."""

_BATCH_ROWS: Final = 10_000
_NOT_UTF8: Final = "not UTF-8"


def types(stream: BinaryIO) -> dict[str, str]:
    """Give each column its type: one of `CARRIED`, "binary", or "nested".

    Raises:
        UsageError: two columns have one name.
    """
    with _opened(stream) as file:
        schema = file.schema_arrow
    if len(set(schema.names)) < len(schema.names):
        raise UsageError("two columns have the same name")
    if not schema.names:
        raise UsageError("the file has no columns")
    return {field.name: _kind(field.type) for field in schema}


def batches(stream: BinaryIO, url: str, columns: dict[str, str]) -> Iterator[pa.Table]:
    """Yield tables of `url`, the carried columns with their types, and `problem`."""
    with _opened(stream) as file:
        # In this thread: see `commits.parts.read_part`.
        for batch in file.iter_batches(_BATCH_ROWS, columns=[url, *columns], use_threads=False):
            if not batch.num_rows:
                continue
            links, broken = _text(batch.column(url))
            problem = pc.if_else(broken, pa.scalar(_NOT_UTF8), pa.scalar(None, pa.string()))
            carried = [_carried(batch.column(name), kind) for name, kind in columns.items()]
            arrays = [pc.utf8_trim_whitespace(links), *carried, problem]
            yield pa.table(arrays, names=["url", *columns, "problem"])


def _opened(stream: BinaryIO) -> Any:  # noqa: ANN401 - pyarrow has no types
    # With a buffer, pages are read one by one, and not whole row groups.
    return pq.ParquetFile(stream, buffer_size=2**20, pre_buffer=False)


def _kind(given: pa.DataType) -> str:
    if pa.types.is_dictionary(given):
        return _kind(given.value_type)
    kinds = {
        "bool": pa.types.is_boolean,
        "float64": lambda one: pa.types.is_floating(one) or pa.types.is_decimal(one),
        "string": lambda one: (
            _is_text(one)
            or (pa.types.is_temporal(one) and not pa.types.is_interval(one))
            or pa.types.is_null(one)
            or pa.types.is_uint64(one)
        ),
        "int64": pa.types.is_integer,
        "binary": _is_binary,
    }
    return next((kind for kind, fits in kinds.items() if fits(given)), "nested")


def _is_text(given: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(fits(given) for fits in kinds)


def _is_binary(given: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(fits(given) for fits in kinds)


def _carried(array: pa.Array, kind: str) -> pa.Array:
    if kind != "string":
        return array.cast(CARRIED[kind], safe=False)
    return _text(array)[0]


def _text(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Give strings, null where the bytes are not UTF-8, and where that is."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    good = pa.array([False]).take(pa.array([0] * len(array)))
    if _is_text(array.type) or _is_binary(array.type):
        raw = array.cast(pa.binary())
        try:
            return raw.cast(pa.string()), good
        except pa.ArrowInvalid:
            texts = [_decoded(value) for value in raw.to_pylist()]
            given = pa.array(texts, pa.string())
            return given, pc.and_(raw.is_valid(), given.is_null())
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        plain = array.cast(pa.timestamp(array.type.unit)).cast(pa.string())
        return pc.binary_join_element_wise(plain, "Z", ""), good
    return array.cast(pa.string()), good


def _decoded(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
