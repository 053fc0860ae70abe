"""`jobs.train` as people run it: real Ray, on disk and on a real S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from redaction_core.checkpoints import load_model
from redaction_core.inference import Restorer
from redaction_core.redaction import Pixelate
from redaction_core.storage import open_store
from redaction_core.training.defaults import LEARNING_RATES
from tests.command import WITHOUT_RAY, run
from tests.unit.training_group import model_bytes, session_of
from tests.unit.training_group import run as run_alone
from tests.unit.training_sets import smooth_images, write_data_set

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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Add up in the order in which a worker of one core does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_the_command_on_s3_gives_the_model_of_one_worker_on_disk(
    data: str, tmp_path: Path, s3_location: str
) -> None:
    source, bucket = open_store(data), open_store(f"{s3_location}/set")
    for entry in source.list():
        bucket.put(entry.key, source.read(entry.key).data)
    flags = ("--data", bucket.location, "--output", f"{s3_location}/out", *TINY)

    ended = run(tmp_path / "log", *flags, verb="train")

    assert ended.code == 0, ended.stderr
    assert ended.result["status"] == "complete"
    assert (ended.result["epochs"], ended.result["steps"]) == (3, 12)
    assert ended.result["model"] == f"{s3_location}/out/model"
    assert "epoch 3 done, validation loss" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert {"_SUCCESS", "run.json", "curves.png", "model/README.md"} <= set(
        keys(f"{s3_location}/out")
    )

    alone = session_of(
        data,
        tmp_path / "out",
        redactions=("pixelate:4",),
        epochs=3,
        ema_decay=0.999,
        learning_rate=LEARNING_RATES["enhancer"],
    )
    run_alone(alone)
    assert model_bytes(tmp_path / "out") == weights(f"{s3_location}/out")

    again = run(tmp_path / "again", *flags, "--resume", verb="train", environment=WITHOUT_RAY)
    assert again.code == 0, again.stderr
    assert again.result | {"seconds": 0} == ended.result | {"seconds": 0}

    model = load_model(f"{s3_location}/out/model")
    restorer = Restorer(model, device=torch.device("cpu"), precision=torch.float32)
    image = torch.zeros(1, 16, 16, dtype=torch.uint8)
    ((restored, _),) = restorer.enhance([image], Pixelate(block=4))
    assert restored.shape == image.shape


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
    first, last = ended.stderr.splitlines()
    assert first.startswith("starting 1 worker of ")
    assert last.startswith("error: cannot keep decoded images in /dev/null/cache: ")
