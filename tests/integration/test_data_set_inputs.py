"""What ingest wrote is what reconstruct and audit read: real commands, from pictures to errors."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from redaction_core.storage import open_store
from tests.command import Output, run
from tests.poison import packed, picture

COUNT = 7


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("road")
    (folder / "pictures").mkdir()
    for number in range(COUNT):
        (folder / "pictures" / f"{number}.png").write_bytes(packed(picture(64, 64, seed=number)))
    flags = ("--images", str(folder / "pictures"), "--size", "48", "--shard-size", "3")
    ended = run(folder / "log", *flags, "--output", str(folder / "set"), verb="ingest")
    assert ended.code == 0, ended.stderr
    return folder / "set"


def test_reconstruct_takes_every_row_as_an_image(data_set: Path, tmp_path: Path) -> None:
    flags = ("--input", str(data_set), "--redact", "pixelate:4", "--shard-size", "2")
    ended = run(tmp_path / "log", *flags, "--output", str(tmp_path / "out"))
    assert ended.code == 0, ended.stderr
    store = open_store(str(data_set))
    ids = [
        image_id
        for entry in store.list("images/")
        for image_id in pq.read_table(io.BytesIO(store.read(entry.key).data))[
            "image_id"
        ].to_pylist()
    ]
    output = Output.read(str(tmp_path / "out"))
    keys = [f"part-{n // 3:06d}/{n % 3:06d}-{each}.png" for n, each in enumerate(ids)]
    assert [row["key"] for row in output.rows] == keys
    assert output.images.keys() == {f"images/{key}" for key in keys}
    assert all(row["width"] == 48 and row["recovered"] for row in output.rows)


def test_audit_plans_the_same_rows(data_set: Path, tmp_path: Path) -> None:
    flags = ("--images", str(data_set), "--output", str(tmp_path / "out"), "--dry-run")
    ended = run(tmp_path / "log", *flags, verb="audit")
    assert ended.code == 0, ended.stderr
    assert ended.result["inputs"] == COUNT


def test_an_output_in_the_data_set_is_refused(data_set: Path, tmp_path: Path) -> None:
    flags = ("--input", str(data_set), "--redact", "pixelate:4", "--output", str(data_set))
    ended = run(tmp_path / "log", *flags)
    assert ended.code == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
