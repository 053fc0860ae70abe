"""`jobs.train` as people run it: real Ray, on disk and on a real S3 server."""

from pathlib import Path

import pytest

from redaction_core.checkpoints import load_model
from redaction_core.images import encode
from redaction_core.storage import open_store
from tests.command import WITHOUT_RAY, run
from tests.unit.training_sets import noise_images, smooth_images, write_data_set

TINY = (
    *("--network", "enhancer", "--architecture", "width=8", "blocks=1", "--redact", "pixelate:4"),
    *("--crop", "16", "--batch-size", "7", "--epochs", "3", "--precision", "float32"),
    *("--workers", "1", "--cpus-per-worker", "1", "--checkpoint-every-s", "0"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    location = str(tmp_path_factory.mktemp("data") / "set")
    write_data_set(location, smooth_images(32, 16))
    return location


def keys(location: str) -> list[str]:
    return [entry.key for entry in open_store(location).list()]


def weights(location: str) -> bytes:
    return open_store(location).read("model/model.safetensors").data


def test_disk_and_s3_give_the_same_model_which_reconstructs(
    data: str, tmp_path: Path, s3_location: str
) -> None:
    source, bucket = open_store(data), open_store(f"{s3_location}/set")
    for entry in source.list():
        bucket.put(entry.key, source.read(entry.key).data)
    for place, log in ((str(tmp_path), "disk"), (s3_location, "s3")):
        location = data if log == "disk" else f"{s3_location}/set"
        ended = run(
            tmp_path / log, "--data", location, "--output", f"{place}/out", *TINY, verb="train"
        )
        assert ended.code == 0, ended.stderr
        assert ended.result["status"] == "complete"
        assert (ended.result["epochs"], ended.result["steps"]) == (3, 12)
        assert ended.result["model"] == f"{place}/out/model"
        assert "epoch 3 done, validation loss" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert {"_SUCCESS", "run.json", "curves.png", "model/README.md"} <= set(
            keys(f"{place}/out")
        )

    assert weights(f"{tmp_path}/out") == weights(f"{s3_location}/out")

    again = run(
        tmp_path / "again",
        *("--data", f"{s3_location}/set", "--output", f"{s3_location}/out", *TINY, "--resume"),
        verb="train",
        environment=WITHOUT_RAY,
    )
    assert again.code == 0, again.stderr
    assert again.result | {"seconds": 0} == ended.result | {"seconds": 0}

    images = open_store(f"{tmp_path}/images")
    for number, pixels in enumerate(noise_images(2, 16)):
        images.put(f"{number}.png", encode(pixels, "png"))
    restored = run(
        tmp_path / "restored",
        *("--input", images.location, "--output", f"{tmp_path}/restored-images"),
        *("--redact", "pixelate:4", "--model", f"{s3_location}/out/model"),
    )
    assert restored.code == 0, restored.stderr


def test_two_workers_share_every_batch(data: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    ended = run(
        tmp_path / "log",
        *("--data", data, "--output", f"{tmp_path}/out", *TINY, "--workers", "2"),
        *("--epochs", "1"),
        verb="train",
        environment={"REDACTION_TRAINING_TRACE": str(trace)},
    )

    assert ended.code == 0, ended.stderr
    assert load_model(f"{tmp_path}/out/model").name == "enhancer"
    shares = [file.read_text().splitlines() for file in trace.iterdir()]
    assert len(shares) == 2
    lines = sorted(line for share in shares for line in share)
    assert len(lines) == len(set(lines)) == 24
    # Four batches, the last of three: shares differ by one sample at most.
    assert sorted(map(len, shares)) == [10, 14]


def test_what_a_worker_raises_on_purpose_ends_the_run_in_one_line(
    data: str, tmp_path: Path
) -> None:
    flags = ("--data", data, "--output", f"{tmp_path}/out", "--cache-dir", "/dev/null/cache")

    ended = run(tmp_path / "log", *flags, *TINY, verb="train")

    assert ended.code == 1
    assert ended.error
