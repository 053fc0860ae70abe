"""Tables that jobs hand to each other, declared once for producers and consumers."""

import json
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

METRICS: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok | failed
        pa.field("failure", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("network", pa.string()),
        pa.field("model_sha256", pa.string()),
        pa.field("input_sha256", pa.string()),
        pa.field("output_sha256", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("block_size", pa.int32()),
        pa.field("block_top", pa.int32()),  # rows above the first line of the grid
        pa.field("block_left", pa.int32()),
        pa.field("block_confidence", pa.float64()),  # null where it was told, not found
        pa.field("hidden_fraction", pa.float64()),  # or the pixelated share, if not all is
        pa.field("mae", pa.float64()),
        pa.field("mse", pa.float64()),
        pa.field("psnr", pa.float64()),
        pa.field("ssim", pa.float64()),
        pa.field("error_p50", pa.float64()),
        pa.field("error_p95", pa.float64()),
        pa.field("error_p99", pa.float64()),
        pa.field("baseline_mae", pa.float64()),
        pa.field("baseline_psnr", pa.float64()),
        pa.field("bicubic_mae", pa.float64()),
        pa.field("recovered", pa.float64()),
        pa.field("consistency_mae", pa.float64()),
        pa.field("consistent", pa.bool_()),  # the result explains its input
        pa.field("expected_mae", pa.float64()),  # as the network expects it, without originals
        pa.field("interval_p90", pa.float64()),  # mean half width of intervals that hold 90 %
        pa.field("coverage_p90", pa.float64()),  # share of the original's values in them
        pa.field("seconds", pa.float64()),
    ]
)
"""One row an input of a reconstruction; errors are on the 0-1 scale, psnr in dB."""

AUDIT: Final = pa.schema(
    [
        METRICS.field("key"),
        pa.field("group", pa.string()),
        pa.field("redaction", pa.string(), nullable=False),
        *(METRICS.field(name) for name in METRICS.names if name not in {"key", "output_sha256"}),
    ]
)
"""One row an input and redaction of an audit."""

EMBEDDINGS: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("redaction", pa.string()),  # null: clean
        pa.field("state", pa.string(), nullable=False),  # clean | redacted | restored
        pa.field("embedding", pa.list_(pa.float32()), nullable=False),  # of unit length
    ]
)
"""What a matcher makes of the pictures of an audit; as telling as the faces themselves."""

PLAN_PART: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("output", pa.string()),  # key below images/; null where the plan already failed it
        pa.field("failure", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("extra", pa.string()),  # JSON: what the verb alone understands
    ]
)
"""The inputs of one shard, in the byte order of their keys."""

FAILURES: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),  # or the key; never with credentials
        pa.field("failure", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("http_status", pa.int32()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # received in the last attempt
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)
"""One row an input of a data set that is no image of it."""

CONTENTS: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),  # hash of the pixels
        pa.field("unit", pa.string(), nullable=False),  # hash of the group, or the content
        pa.field("split", pa.string(), nullable=False),  # as the shard gave it
        pa.field("fixed", pa.bool_(), nullable=False),  # the source says which split
        pa.field("difference_hash", pa.int64(), nullable=False),
    ]
)
"""What the last pass over a data set must know of each image; rows are in the order of images."""

NEAR_DUPLICATES: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("near_image_id", pa.string(), nullable=False),
        pa.field("distance", pa.int32(), nullable=False),  # bits of the difference hash
    ]
)
"""Pairs of images that look alike; of several with one content, the one seen first."""

COLUMN_TYPES: Final[Mapping[str, pa.DataType]] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}
"""Types of carried columns."""

_IMAGE: Final = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])


def dataset(columns: Mapping[str, str], *, labels: bool) -> pa.Schema:
    """Give the schema of a data set's images, with carried columns by name and type.

    `image` is what Hugging Face's libraries take for an image (and say in the metadata), and
    decode by themselves.
    """
    fields = [
        pa.field("image", _IMAGE),  # may be null by its type: else those libraries do not know it
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
        pa.field("source_width", pa.int32(), nullable=False),
        pa.field("source_height", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        *([pa.field("label", pa.string())] if labels else []),
        *(pa.field(name, COLUMN_TYPES[kind]) for name, kind in columns.items()),
        pa.field("duplicate_of", pa.string()),  # image_id of the same content seen first
    ]
    features = {field.name: {"dtype": str(field.type), "_type": "Value"} for field in fields}
    features |= {
        field.name: {"dtype": "float64", "_type": "Value"}
        for field in fields
        if field.type == pa.float64()
    }
    features["image"] = {"_type": "Image"}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def column_names(columns: Mapping[str, str], *, labels: bool) -> dict[str, str]:
    """Give each carried column the name it has in the data set.

    Without what cannot be printed, which readers stumble over, and with `list_` before a taken one.
    """
    taken = {*dataset({}, labels=labels).names, "image.bytes", "image.path"}
    names: dict[str, str] = {}
    for name in columns:
        new = "".join(letter for letter in name if letter.isprintable()) or "column"
        while new in taken:
            new = f"list_{new}"
        taken.add(new)
        names[name] = new
    return names
