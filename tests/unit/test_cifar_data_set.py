"""CIFAR-10 in its publisher's two formats and full size: right pixels, labels and splits."""

import io
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redaction_core.images import Transform
from redaction_core.ingestion import IMAGES, LEDGER, Ingestion, Task
from redaction_core.plan import shards
from redaction_core.sources.archived import ArchiveSource
from redaction_core.splits import Splits
from redaction_core.storage import open_store
from tests.archive_files import (
    BATCHES,
    CLASSES,
    FULL_BATCH,
    Batch,
    cifar_batch,
    write_cifar_binary,
    write_cifar_python,
)

SHARD = 1000


@pytest.fixture(scope="module")
def batches() -> dict[str, Batch]:
    return {name: cifar_batch(name, FULL_BATCH) for name in BATCHES}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("cifar-10-python.tar.gz", write_cifar_python),
        ("cifar-10-binary.tar.gz", write_cifar_binary),
    ],
)
def test_the_whole_of_cifar_10(
    tmp_path: Path, batches: dict[str, Batch], name: str, write: Callable[[Path, int], None]
) -> None:
    write(tmp_path / name, FULL_BATCH)
    given = Task(
        source=ArchiveSource(store=open_store(str(tmp_path)), key=name, max_bytes=20_000_000),
        transform=Transform(size=32, color="rgb"),
        splits=Splits(),
    )
    seen: set[str] = set()
    splits: Counter[tuple[str, bool]] = Counter()
    with closing(Ingestion(given)) as work:
        for shard in shards(given.source.planned(), SHARD):
            outcome = work.run(shard)
            assert outcome.tables[LEDGER] == []
            for row in outcome.tables[IMAGES]:
                batch, _, index = row["url"].partition("/")
                records, labels = batches[batch]
                assert row["label"] == CLASSES[labels[int(index)]]
                pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
                planes = records[int(index)].reshape(3, 32, 32)
                assert np.array_equal(pixels, planes.transpose(1, 2, 0))
                splits[row["split"], batch == "test_batch"] += 1
                seen.add(row["url"])
    assert len(seen) == 60_000
    assert splits["test", True] == 10_000
    assert splits.keys() == {("test", True), ("train", False), ("val", False)}
    assert splits["train", False] + splits["val", False] == 50_000
    assert abs(splits["val", False] / 50_000 - Splits().val_fraction) < 0.005
