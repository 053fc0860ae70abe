"""Preprocessing in Ray Data as its documentation shows it, to measure against."""

import io
from typing import Any

from PIL import Image

SIDE = 224


def normalise(batch: dict[str, Any]) -> dict[str, Any]:
    """Decode, gray, resize and encode with Pillow."""
    images = []
    for data in batch["bytes"]:
        image = Image.open(io.BytesIO(data)).convert("L").resize((SIDE, SIDE))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=95)
        images.append(out.getvalue())
    return {"path": batch["path"], "image": images}


def documented(source: str, target: str) -> None:
    """Print the number of images: read_binary_files, map_batches, write_parquet."""
    import ray
    import ray.data

    ray.init("local", include_dashboard=False, log_to_driver=False)
    images = ray.data.read_binary_files(source, include_paths=True, file_extensions=["jpg"])
    images.map_batches(normalise).write_parquet(target)
    print(ray.data.read_parquet(target).count())
    ray.shutdown()
