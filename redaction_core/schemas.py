"""Tables that jobs hand to each other, declared once for producers and consumers."""

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
        pa.field("hidden_fraction", pa.float64()),
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
        pa.field("seconds", pa.float64()),
    ]
)
"""One row an input of a reconstruction; errors are on the 0-1 scale, psnr in dB."""

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
