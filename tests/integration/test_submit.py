"""`ray job submit` to a head and three workers: uploads, exit codes, access, metrics, logs."""

import json
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from threading import Event
from typing import Any

import pytest

from jobs._telemetry import NAMES
from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.images import encode
from redaction_core.storage import open_store
from tests.local_cluster import LocalCluster, local_cluster
from tests.unit.test_dashboard import metrics_asked_for
from tests.unit.training_sets import smooth_images

MAX_UPLOAD_BYTES = 5 * 2**20
IMAGES, SIDE, SHARD_SIZE = 14, 64, 3
EPOCHS = "40"  # some seconds, for several reports
ROAD = {
    "ingest": ("--images", "{}/in", "--output", "{}/set", "--size", str(SIDE)),
    "train": ("--data", "{}/set", "--output", "{}/net", "--workers", "2", "--epochs", EPOCHS),
    "reconstruct": ("--input", "{}/in", "--output", "{}/out", "--redact", "pixelate:4"),
    "audit": ("--images", "{}/set", "--output", "{}/strength", "--redactions", "pixelate:4"),
    "verify": ("--output", "{}/out"),
}
MORE = {
    "ingest": ("--val-fraction", "0.3"),
    "train": (
        *("--network", "enhancer", "--architecture", "width=8", "blocks=1"),
        *("--redact", "pixelate:4", "--crop", "32", "--batch-size", "2", "--precision", "float32"),
    ),
}


@dataclass(frozen=True)
class Road:
    """All verbs, one after the other, on one cluster and one S3 server."""

    cluster: LocalCluster
    location: str
    ended: dict[str, CompletedProcess[str]]
    metrics: str
    seen: set[str]
    """Names of the metrics that there were while jobs ran."""

    def result(self, verb: str) -> dict[str, Any]:
        """Give the closing line of a job, which the submission prints with the log."""
        (line,) = re.findall(rf'^{{"verb": "{verb}".*}}$', self.ended[verb].stdout, re.MULTILINE)
        return dict(json.loads(line))

    def total(self, name: str, **labels: str) -> float:
        """Add up a metric over machines and processes."""
        found = re.findall(rf"^ray_{name}{{(.*)}} (\S+)$", self.metrics, re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for text, value in found if all(each in text for each in wanted))


@pytest.fixture(scope="module")
def cluster(s3_server: EmbeddedS3) -> Iterator[LocalCluster]:
    often = {"RAY_metrics_report_interval_ms": "500"}
    with local_cluster({**s3_server.environment, **often}, dashboard=True) as cluster:
        cluster.add(cpus=0)
        for _ in range(3):
            cluster.add()
        yield cluster


@pytest.fixture(scope="module")
def road(cluster: LocalCluster, s3_server: EmbeddedS3) -> Road:
    location = f"s3://tests/{secrets.token_hex(4)}"
    with pytest.MonkeyPatch.context() as patched:
        for name, value in s3_server.environment.items():
            patched.setenv(name, value)
        store = open_store(f"{location}/in")
    for number, image in enumerate(smooth_images(IMAGES, SIDE)):
        store.put(f"{number:02}.png", encode(image, "png"))
    store.put("broken.png", b"no image")
    ended = {}
    with scraped(cluster) as seen:
        for verb, flags in ROAD.items():
            told = [flag.format(location) for flag in (*flags, *MORE.get(verb, ()))]
            if verb in ("ingest", "reconstruct", "audit"):
                told += ["--shard-size", str(SHARD_SIZE), "--max-failure-rate", "0.1"]
                told += ["--stuck-after-s", "4"]  # it looks more often then
            ended[verb] = cluster.submit(verb, *told)
            assert ended[verb].returncode == 0, ended[verb].stdout + ended[verb].stderr
    return Road(cluster, location, ended, cluster.metrics(), seen)


@contextmanager
def scraped(cluster: LocalCluster) -> Iterator[set[str]]:
    """Look at the metrics all the while, as Prometheus does: gauges end with their process."""
    seen: set[str] = set()
    over = Event()

    def scrape() -> None:
        while not over.wait(0.5):
            seen.update(re.findall(r"^(ray_\w+){", cluster.metrics(), re.MULTILINE))

    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape)
        try:
            yield seen
        finally:
            over.set()
            scraping.result()


def test_each_job_succeeds_on_a_cluster(road: Road) -> None:
    for verb in ("ingest", "reconstruct"):
        found = road.result(verb)
        assert (found["inputs"], found["failed"]) == (IMAGES + 1, 1), verb
    # The rows of the data set: what is no image is not among them.
    found = road.result("audit")
    assert (found["inputs"], found["failed"]) == (IMAGES, 0)
    assert road.result("train")["epochs"] == int(EPOCHS)
    assert road.result("verify")["problems"] == 0


def test_the_upload_is_small(road: Road) -> None:
    folder = road.cluster.temp_dir(0) / "session_latest" / "runtime_resources" / "working_dir_files"
    (package,) = (path for path in folder.iterdir() if path.is_dir())
    assert {path.name for path in package.iterdir()} == {"jobs", "redaction_core", "pyproject.toml"}
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < MAX_UPLOAD_BYTES


def test_metrics_add_up_to_what_was_done(road: Road) -> None:
    for verb in ("ingest", "reconstruct", "audit"):
        assert road.total("redaction_inputs_total", verb=verb, status="ok") == IMAGES
        failed = int(verb != "audit")
        assert road.total("redaction_inputs_total", verb=verb, status="failed") == failed
        assert road.total("redaction_failures_total", verb=verb, failure="not_an_image") == failed
        shards = -(-(IMAGES + failed) // SHARD_SIZE)
        assert road.total("redaction_shards_total", verb=verb) == shards
        assert road.total("redaction_attempts_total", verb=verb) == shards
        assert road.total("redaction_bytes_total", verb=verb) > 0
    for verb, stages in {
        "ingest": ("read", "normalise", "commit"),
        "reconstruct": ("read", "decode", "network", "measure", "commit"),
        "train": ("data", "step"),
    }.items():
        for stage in stages:
            assert road.total("redaction_stage_seconds_total", verb=verb, stage=stage) > 0, stage
    assert {name for name in road.seen if "_redaction_" in name} <= {
        f"ray_{name}" for name in NAMES
    }
    # Without a GPU, and where no worker dies, these have no values.
    rare = "gpu|train_restarts"
    assert {name for name in metrics_asked_for() if not re.search(rare, name)} <= road.seen


def test_logs_say_which_shard_and_which_attempt(road: Road) -> None:
    lines = []
    for path in road.cluster.folder.glob("*/session_latest/logs/worker-*.err"):
        lines += [line for line in path.read_text().splitlines() if '"shard committed"' in line]
    found = [json.loads(line) for line in lines]
    mine = [each for each in found if each["verb"] == "reconstruct"]
    assert sorted(each["shard"] for each in mine) == list(range(-(-(IMAGES + 1) // SHARD_SIZE)))
    assert {each["attempt"] for each in mine} == {1}
    assert all(each["job_id"] and each["node_id"] and each["seconds"] > 0 for each in mine)


def test_a_wrong_token_is_refused(cluster: LocalCluster) -> None:
    wrong = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    result = cluster.submit("verify", "--output", "s3://tests/out", environment=wrong)
    assert result.returncode != 0
    assert "Invalid authentication token" in result.stderr, result.stderr


def test_a_job_with_too_many_failed_inputs_exits_with_1(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no image")
    places = ("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    result = cluster.submit("reconstruct", *places)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "too_many_failures" in result.stdout
    assert "failed with exit code 1" in result.stdout


def test_a_wrong_flag_fails_the_submission(cluster: LocalCluster) -> None:
    result = cluster.submit("reconstruct", "--no-such-flag", "1")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "failed with exit code 2" in result.stdout
    assert "--no-such-flag" in result.stdout
