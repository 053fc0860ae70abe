"""Flags of ingest: what is refused, what is chosen, and what a run is known by."""

import dataclasses
import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest

from jobs._verb import Job
from jobs.ingest import Ingest, ingest
from redaction_core.errors import UsageError
from redaction_core.images import TRANSFORM_VERSION, Transform
from redaction_core.ingestion import Task
from redaction_core.sources import Details
from redaction_core.sources.archived import ArchiveSource
from redaction_core.sources.files import FileSource
from redaction_core.sources.urls import UrlSource
from redaction_core.splits import Splits
from tests.archive_files import tar_bytes, write_cifar_binary, zip_bytes

# These may differ from one start to the next of the same run.
FREE = {
    *("output", "shard_size", "workers", "cpus_per_worker", "gpus_per_worker"),
    *(
        "worker_rate",
        "worker_price",
        "max_failure_rate",
        "extend",
        "stuck_after_s",
        "overwrite",
        "dry_run",
        "retry_failed",
    ),
    *("max_pixels", "max_bytes", "timeout_s", "attempts", "max_redirects", "in_flight"),
    *("host_connections", "host_rate", "robots", "contact", "allow_private_hosts"),
}


def config(**values: Any) -> Ingest:  # noqa: ANN401 - flags of every kind
    return Ingest(**({"urls": "list.csv", "output": "out"} | values))


def of_images(place: str, **values: Any) -> Ingest:  # noqa: ANN401 - flags of every kind
    return config(urls=None, images=place, **values)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Job]:
    """Collect the jobs that would be run."""
    found: list[Job] = []
    monkeypatch.setattr("jobs._run.execute", lambda job, _: found.append(job) or 0)
    monkeypatch.chdir(tmp_path)
    rows = "url,who,split\nhttp://a.org/1,ann,x\nhttp://a.org/2,bo,y\n"
    for name in ("list.csv", "other.csv"):
        Path(name).write_text(rows)
    Path("wider.csv").write_text(rows.replace("who,", "who,more,").replace("n,x", "n,1,x"))
    Path("in/train/cat").mkdir(parents=True)
    Path("in/train/cat/1.png").write_bytes(b"x")
    return found


def task(job: Job) -> Task:
    given: Task = job.shards.open_work.keywords["task"]  # type: ignore[attr-defined]  # a partial
    return given


@pytest.mark.parametrize(
    "values",
    [
        {"urls": None},
        {"images": "in"},
        {"urls": None, "images": "in", "url_column": "url"},
        *({name: 0} for name in ("size", "max_pixels", "max_bytes", "attempts", "in_flight")),
        {"host_connections": 0},
        *({"host_rate": value} for value in (0, -1, float("nan"))),
        {"retry_failed": ("bad_luck",)},
        *({"retry_failed": (), flag: True} for flag in ("overwrite", "extend")),
        *({"max_failure_rate": value} for value in (-0.1, 1.1)),
        {"shard_size": 0},
        {"extend": True, "overwrite": True},
    ],
)
def test_flags_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"\A[^\n]*--[^\n]+\Z"):
        config(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"size": 20_000},
        {"min_size": -1},
        {"val_fraction": 1.1},
        {"group_by": "("},
        {"max_redirects": -1},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"contact": "me\nX-Injected: 1"},
        {"allow_private_hosts": ("http://a.org",)},
        {"urls": "missing.csv"},
        {"urls": "http://a.org/list.csv"},
        {"url_column": "link"},
        {"urls": None, "images": "missing"},
        {"urls": None, "images": "list.csv"},
        {"urls": None, "images": "list.csv/"},
        {"urls": None, "images": "s3:/bucket/one/slash"},
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    jobs: list[Job], values: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"\A[^\n]+\Z"):
        ingest(config(**values))
    assert jobs == []


def test_a_run_is_known_by_everything_that_changes_its_bytes(jobs: list[Job]) -> None:
    """A flag that is added later belongs to one of the two kinds."""
    changes: dict[str, Ingest] = {
        "urls": config(urls="other.csv"),
        "images": of_images("in"),
        "url_column": config(url_column="who"),
        "size": config(size=10),
        "color": config(color="rgb"),
        "fit": config(fit="pad"),
        "min_size": config(min_size=3),
        "val_fraction": config(val_fraction=0.5),
        "group_by": config(group_by="who"),
        "labels": config(labels="none"),
        "seed": config(seed=1),
    }
    assert {field.name for field in dataclasses.fields(Ingest)} == FREE | set(changes)

    for given in (config(), *changes.values(), config(urls="wider.csv")):
        ingest(given)
    free: dict[str, Any] = {"output": "else", "shard_size": 3, "workers": 9, "cpus_per_worker": 2}
    free |= {"gpus_per_worker": 1, "max_failure_rate": 0.1, "extend": True, "dry_run": True}
    free |= {"max_pixels": 10, "max_bytes": 10, "timeout_s": 1, "attempts": 1, "in_flight": 1}
    free |= {"worker_rate": 9.5, "worker_price": 0.4, "stuck_after_s": 7}
    free |= {"max_redirects": 0, "host_connections": 1, "host_rate": 1, "robots": False}
    ingest(config(**free, contact="me", allow_private_hosts=("a.org",)))
    ingest(config(retry_failed=("timeout",)))
    ingest(config(overwrite=True))
    assert {*free, "contact", "allow_private_hosts", "retry_failed", "overwrite"} == FREE

    first, *others = (dict(job.config) for job in jobs)
    others, same = others[:-3], others[-3:]
    assert all(each == first for each in same)
    known = [tuple(sorted(map(str, other.items()))) for other in (first, *others)]
    assert len(set(known)) == len(known) == len(changes) + 2
    assert first["transform_version"] == TRANSFORM_VERSION
    assert first["columns"] == {"who": "string", "list_split": "string"}


def test_what_the_flags_say_reaches_the_workers(jobs: list[Job], tmp_path: Path) -> None:
    ingest(
        config(
            size=10,
            color="rgb",
            fit="pad",
            min_size=3,
            max_pixels=77,
            val_fraction=0.25,
            group_by="who",
            seed=5,
            timeout_s=7.0,
            attempts=2,
            max_redirects=1,
            in_flight=9,
            max_bytes=99,
            robots=False,
            contact="me@example.org",
            allow_private_hosts=("here.lan",),
        )
    )
    (job,) = jobs
    given = pickle.loads(pickle.dumps(task(job)))  # noqa: S301 - as it goes to workers
    assert given.transform == Transform(size=10, color="rgb", fit="pad", min_size=3, max_pixels=77)
    columns = ("who", "list_split")
    assert given.splits == Splits(val_fraction=0.25, seed=5, group_by="who", columns=columns)
    source = given.source
    assert isinstance(source, UrlSource)
    # Workers may start in another folder.
    assert source.location == str(tmp_path / "list.csv")
    policy = source.policy
    assert (policy.timeout_s, policy.attempts, policy.max_redirects) == (7.0, 2, 1)
    assert (policy.in_flight, policy.max_bytes, policy.robots) == (9, 99, False)
    assert (policy.contact, policy.allow_private_hosts) == ("me@example.org", ("here.lan",))
    assert job.shards.tables["images"].names[-3:] == ["who", "list_split", "duplicate_of"]
    found = [Details.of(item) for item in job.listed(())]
    assert {each.name: each.columns for each in found} == {
        "http://a.org/1": {"who": "ann", "list_split": "x"},
        "http://a.org/2": {"who": "bo", "list_split": "y"},
    }


def test_what_is_not_said_has_the_defaults_that_are_documented(jobs: list[Job]) -> None:
    ingest(config())
    source = task(jobs[0]).source
    assert isinstance(source, UrlSource)
    policy = source.policy
    assert (policy.timeout_s, policy.attempts, policy.max_redirects) == (30, 3, 5)
    assert (policy.max_bytes, policy.robots, policy.allow_private_hosts) == (20_000_000, True, ())
    assert task(jobs[0]).transform == Transform(
        size=224, color="gray", fit="crop", max_pixels=2**26
    )
    assert (config().host_connections, config().host_rate) == (8, 10.0)
    assert (config().max_failure_rate, config().shard_size) == (1.0, 1000)


@pytest.mark.parametrize("place", [".", "./in/..", "{}/in/"])
def test_places_that_could_be_no_file_are_folders(
    jobs: list[Job], tmp_path: Path, place: str
) -> None:
    ingest(of_images(place.format(tmp_path)))
    assert isinstance(task(jobs[0]).source, FileSource)


def test_a_whole_bucket_is_a_source(jobs: list[Job], s3_location: str) -> None:
    bucket = s3_location.rpartition("/")[0]
    for place in (bucket, f"{bucket}/"):
        ingest(of_images(place))
    assert [type(task(job).source) for job in jobs] == [FileSource] * 2


@pytest.mark.parametrize("labels", ["folders", "none"])
def test_the_source_follows_from_what_is_there(jobs: list[Job], labels: Any) -> None:  # noqa: ANN401
    Path("a.tar").write_bytes(tar_bytes([("test/dog/1.png", b"x")]))
    Path("a.gz").write_bytes(gzip.compress(tar_bytes([("test/dog/1.png", b"x")])))
    Path("a.zip").write_bytes(zip_bytes([("test/dog/1.png", b"x")]))
    write_cifar_binary(Path("cifar"), 1)
    places = ("in", "in/", "a.tar", "a.gz", "a.zip", "cifar")
    for place in places:
        ingest(of_images(place, labels=labels, max_bytes=99))
    kinds = [type(task(job).source) for job in jobs]
    assert kinds == [FileSource] * 2 + [ArchiveSource] * 4
    sources: list[Any] = [task(job).source for job in jobs]
    assert {(each.max_bytes, each.tree) for each in sources} == {(99, labels == "folders")}
    told = [next(iter(job.listed(()))) for job in jobs]
    found = [(Details.of(item).label, Details.of(item).split) for item in told]
    trees = [("cat", None), ("cat", None), *[("dog", "test")] * 3]
    # Those of CIFAR-10 are no folders.
    assert found[:5] == (trees if labels == "folders" else [(None, None)] * 5)
    assert found[5][0] is not None
    assert jobs[0].config == jobs[1].config


def test_only_urls_need_turns_at_hosts(jobs: list[Job]) -> None:
    ingest(config())
    ingest(of_images("in"))
    urls, images = jobs
    assert urls.on_cluster is not None
    assert images.on_cluster is None
    assert urls.shards.at_once > 1


def test_as_many_shards_are_at_once_as_fit_in_memory(jobs: list[Job]) -> None:
    for values in ({}, {"color": "rgb"}, {"size": 1024, "shard_size": 1024}, {"shard_size": 1}):
        ingest(config(**values))
        ingest(of_images("in", **values))
    assert [job.shards.at_once for job in jobs[::2]] == [10, 3, 1, 16]
    assert [job.shards.at_once for job in jobs[1::2]] == [4, 3, 1, 4]


def test_retries_are_asked_for_by_class(jobs: list[Job]) -> None:
    for values in ({}, {"retry_failed": ()}, {"retry_failed": ("timeout", "dns")}):
        ingest(config(**values))
    none, every, some = jobs
    assert none.retry is None
    assert every.retry is not None
    assert some.retry is not None


def test_what_the_run_writes_is_what_overwrite_removes(jobs: list[Job]) -> None:
    ingest(config())
    layout = jobs[0].layout
    assert set(jobs[0].shards.tables) | {"failures"} == set(layout.tables)
    assert (layout.summary, layout.extras) == ("dataset.json", ("near_duplicates.parquet",))
    assert jobs[0].failures_table == "failures"


@pytest.mark.parametrize(
    ("values", "most"),
    [({"size": 1024, "color": "rgb"}, 341), ({"size": 4096}, 64), ({"shard_size": 100_000}, 21399)],
)
def test_shards_that_would_not_fit_in_memory_are_refused(values: dict[str, Any], most: int) -> None:
    with pytest.raises(UsageError, match=f"--shard-size .* {most} at most"):
        config(**values)
    config(**{**values, "shard_size": most})
