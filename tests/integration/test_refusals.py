"""What `python -m jobs.reconstruct` refuses: one line that says what, where and what to do."""

from pathlib import Path

import pytest

from redaction_core.embedded_s3 import EmbeddedS3
from tests.command import run, run_here
from tests.poison import packed, picture


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path) -> None:
    """Lay out one picture to reconstruct."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(packed(picture(64, 64, channels=1)))


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (("--input", "{}/none", "--output", "{}/out"), 2, "no such folder"),
        (("--input", "{}/file", "--output", "{}/out"), 2, "not a folder"),
        (("--input", "{}/empty", "--output", "{}/out"), 2, "holds no inputs"),
        (("--input", "http://host/a", "--output", "{}/out"), 2, "write s3://"),
        (("--input", "{}/in", "--output", "{}/in/out"), 2, "lie in each other"),
        (("--input", "{}/in", "--output", "{}/file"), 2, "not a folder"),
        (("--input", "{}/in", "--output", "{}/out", "--model", "{}/none"), 2, "none"),
        (("--input", "{}/in", "--output", "{}/out", "--redact", "blur:9"), 2, "0.5 to 8"),
        (("--input", "{}/in", "--output", "{}/out", "--shard-size", "0"), 2, "--shard-size"),
        (("--input", "{}/in", "--output", "s3://no-such-bucket/x"), 2, "no such bucket"),
        (("--input", "s3://no-such-bucket/x", "--output", "{}/out"), 2, "no such bucket"),
        (("--input", "{}/in", "--output", "{}/out"), 2, "RAY_ADDRESS=127.0.0.1:1"),
    ],
)
@pytest.mark.usefixtures("s3_location")
def test_what_cannot_work_is_one_line(
    flags: tuple[str, ...], code: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    ended = run_here("reconstruct", *(flag.format(tmp_path) for flag in flags))
    assert ended.code == code, ended.stderr
    *before, last = ended.stderr.splitlines()
    assert last.startswith("error: ")
    assert told in last
    assert before in ([], ["planned 1 inputs, 1 shards in all"])
    assert not ended.stdout


@pytest.mark.parametrize("endpoint", ["user:secret@host:9", "http://user:sec/ret@host"])
def test_an_endpoint_that_is_none_is_told_without_its_password(
    endpoint: str, s3_location: str
) -> None:
    flags = ("--input", f"{s3_location}/in", "--output", f"{s3_location}/out")
    ended = run_here("reconstruct", *flags, environment={"AWS_ENDPOINT_URL": endpoint})
    assert ended.code == 1, ended.stderr
    assert "AWS_ENDPOINT_URL" in ended.error
    assert "sec" not in ended.error


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"])
def test_storage_that_fails_is_one_line_without_credentials(
    name: str, s3_location: str, s3_server: EmbeddedS3
) -> None:
    wrong = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_SECRET_ACCESS_KEY": "wrong"}
    flags = ("--input", f"{s3_location}/in", "--output", f"{s3_location}/out")
    environment = {name: wrong[name], "REDACTION_STORAGE_RETRY_S": "0"}
    ended = run_here("reconstruct", *flags, environment=environment)
    assert ended.code == 1
    assert ended.error.startswith(f"error: cannot reach {s3_location}/in at 127.0.0.1:")
    assert s3_server.access_key not in ended.error
    assert s3_server.secret_key not in ended.error


def test_flags_that_do_not_exist_exit_with_2(tmp_path: Path) -> None:
    ended = run(tmp_path, "--input", "a", "--output", "b", "--inputs", "c")
    assert ended.code == 2
    assert "--inputs" in ended.stderr
    assert not ended.stdout


# Not "auto": it would find the cluster of a test that runs beside this one.
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:1", "RAY_ADDRESS=http://127.0.0.1:1: a job is no client of Ray's"),
        ("127.0.0.1:1", "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1"),
        ("ray://127.0.0.1:1", "RAY_ADDRESS=ray://127.0.0.1:1: a job is no client of Ray's"),
        ("nothing://127.0.0.1:1", "RAY_ADDRESS=nothing://127.0.0.1:1: a job is no client"),
    ],
)
def test_a_cluster_that_is_none_is_one_line(address: str, message: str, tmp_path: Path) -> None:
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out")
    ended = run(tmp_path / "log", *flags, environment={"RAY_ADDRESS": address})
    assert ended.code == 2, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(f"error: {message}")


def test_a_worker_that_fits_nowhere_is_one_line(tmp_path: Path) -> None:
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out", "--workers", "1")
    ended = run(tmp_path / "log", *flags, "--cpus-per-worker", "4096")
    assert ended.code == 2, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: no worker of 4096 CPUs")
