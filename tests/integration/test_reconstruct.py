"""`python -m jobs.reconstruct` as people run it: what it writes, prints, refuses and exits with."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from redaction_core.commits.rounds import read_round
from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import open_store
from tests import poison
from tests.command import WITHOUT_RAY, Ended, Output, files, run
from tests.conftest import BUCKET
from tests.faults.harness import differences
from tests.local_cluster import local_cluster
from tests.poison import packed, picture

FLAGS = ("--redact", "pixelate:8", "--shard-size", "4")
PICTURES = {
    "a.jpg": packed(picture(64, 64), "JPEG"),
    "a.png": packed(picture(64, 64, channels=1)),
    "deep/er/Größe #1%41.png": packed(picture(37, 50, seed=1)),
    "tiny.bmp": packed(picture(1, 1), "BMP"),
    "wide.webp": packed(picture(20, 90, channels=1, seed=2), "WEBP"),
    "zz.png": packed(picture(64, 64, seed=3)),
}
INPUTS = {**PICTURES, "broken.png": PICTURES["zz.png"][:150], "empty.png": b""}
OUTPUTS = {
    *("a.jpg.png", "a.png", "deep/er/Größe #1%41.png"),
    *("tiny.bmp.png", "wide.webp.png", "zz.png"),
}


@dataclass(frozen=True, kw_only=True)
class Done:
    """A run that has ended."""

    input: str
    output: str
    ended: Ended

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that it had."""
        return ("--input", self.input, "--output", self.output, *FLAGS)


def write(location: str, contents: dict[str, bytes]) -> None:
    store = open_store(location)
    for key, data in contents.items():
        store.put(key, data)


@pytest.fixture(scope="module")
def cluster(s3_server: EmbeddedS3) -> Iterator[Mapping[str, str]]:
    """Give the environment of one cluster for all runs, as its start takes longer than theirs."""
    with local_cluster(s3_server.environment) as cluster:
        cluster.add(cpus=2)
        yield cluster.environment


def whole_run(log: Path, root: str, environment: Mapping[str, str]) -> Done:
    """Most inputs are good; two of eight fail."""
    write(f"{root}/in", INPUTS)
    flags = ("--input", f"{root}/in", "--output", f"{root}/out", *FLAGS)
    ended = run(log, *flags, "--max-failure-rate", "0.25", environment=environment)
    return Done(input=f"{root}/in", output=f"{root}/out", ended=ended)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, cluster: Mapping[str, str]) -> Done:
    folder = tmp_path_factory.mktemp("disk")
    return whole_run(folder / "log", str(folder), cluster)


@pytest.fixture(scope="module")
def bucket(
    tmp_path_factory: pytest.TempPathFactory, s3_server: EmbeddedS3, cluster: Mapping[str, str]
) -> Iterator[Done]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        log, root = tmp_path_factory.mktemp("bucket"), f"s3://{BUCKET}/reconstruct"
        yield whole_run(log, root, cluster)


def test_a_run_tells_what_it_did(disk: Done) -> None:
    assert disk.ended.code == 0, disk.ended.stderr
    assert len(disk.ended.stdout.splitlines()) == 1
    result = disk.ended.result
    assert (result["inputs"], result["ok"], result["failed"]) == (8, 6, 2)
    assert result["failures"] == {"empty_file": 1, "truncated": 1}
    first, *others = disk.ended.stderr.splitlines()
    assert first == "planned 8 inputs, 2 shards in all"
    assert others
    assert all(line.startswith("reconstruct: ") for line in others)


def test_a_run_leaves_an_image_and_a_row_an_input(disk: Done) -> None:
    output = Output.read(disk.output)
    assert output.images.keys() == {f"images/{name}" for name in OUTPUTS}
    assert [row["key"] for row in output.rows] == sorted(INPUTS, key=str.encode)
    assert output.temporary == []
    assert {name.partition("/")[0] for name in output.names} == {
        *("images", "metrics", "plan", "commits"),
        *("plan.json", "summary.json", "run.json", "_SUCCESS", "report.html", "blind.html"),
    }


def test_disk_and_bucket_are_alike(disk: Done, bucket: Done) -> None:
    assert bucket.ended.code == 0, bucket.ended.stderr
    assert differences(Output.read(bucket.output), Output.read(disk.output)) == []
    one, two = (dict(done.ended.result) for done in (disk, bucket))
    for result in (one, two):
        del result["output"], result["seconds"], result["means"]["seconds"]
        assert result.pop("images_per_s_per_worker") > 0
    assert one == two


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_a_finished_run_needs_no_ray_and_is_left_alone(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    done: Done = request.getfixturevalue(place)
    store = open_store(done.output)
    before = list(store.list())
    free = ("--workers", "1", "--cpus-per-worker", "2", "--shard-size", "3")
    ended = run(tmp_path, *done.flags, *free, "--max-failure-rate", "0.25", environment=WITHOUT_RAY)
    assert ended.code == 0, ended.stderr
    assert ended.result["ok"] == 6
    assert list(store.list()) == before


def test_too_many_failures_exit_with_1(disk: Done, tmp_path: Path) -> None:
    ended = run(tmp_path, *disk.flags, "--max-failure-rate", "0.24", environment=WITHOUT_RAY)
    assert ended.code == 1
    assert ended.result["status"] == "too_many_failures"
    assert "error: 2 of 8 inputs failed" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--redact", "pixelate:4"), "redact: pixelate:8 -> pixelate:4"),
        (("--format", "webp"), "format: png -> webp"),
    ],
)
def test_other_settings_are_refused(
    disk: Done, tmp_path: Path, flags: tuple[str, str], named: str
) -> None:
    before = files(Path(disk.output))
    ended = run(tmp_path, *disk.flags, *flags, environment=WITHOUT_RAY)
    assert ended.code == 2
    assert named in ended.error
    assert "--overwrite" in ended.error
    assert files(Path(disk.output)) == before


def test_dry_run_tells_what_is_done(disk: Done, tmp_path: Path) -> None:
    before = files(Path(disk.output))
    ended = run(tmp_path, *disk.flags, "--dry-run", environment=WITHOUT_RAY)
    assert ended.code == 0, ended.stderr
    plan = ended.result
    assert (plan["inputs"], plan["shards"], plan["shards_done"], plan["left"]) == (8, 2, 2, 0)
    assert plan["bytes"] == sum(map(len, INPUTS.values()))
    assert files(Path(disk.output)) == before


def test_dry_run_tells_of_collisions_and_writes_nothing(tmp_path: Path) -> None:
    write(f"{tmp_path}/in", dict.fromkeys(("a.jpg", "a.jpg.png", "b.png"), b"?"))
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out")
    ended = run(tmp_path / "log", *flags, "--dry-run", environment=WITHOUT_RAY)
    assert ended.code == 0, ended.stderr
    assert (ended.result["inputs"], ended.result["collisions"]) == (3, 1)
    assert ended.result["estimated_seconds"] >= 0
    assert {path.name for path in tmp_path.iterdir()} == {"in", "log"}


def test_a_run_whose_inputs_change(tmp_path: Path, cluster: Mapping[str, str]) -> None:
    folder = tmp_path / "in"
    write(str(folder), dict.fromkeys(("a.png", "gone.png", "z.png"), PICTURES["zz.png"]))
    output = f"{tmp_path}/out"
    flags = ("--input", str(folder), "--output", output, *FLAGS)
    first = run(tmp_path / "first", *flags, environment=cluster)
    assert first.code == 0, first.stderr

    times = (folder / "a.png").stat()
    os.utime(folder / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    changed = run(tmp_path / "changed", *flags, environment=WITHOUT_RAY)
    assert changed.code == 2
    assert "1 inputs changed since they were planned (a.png)" in changed.error
    os.utime(folder / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns))

    (folder / "gone.png").unlink()
    write(str(folder), {"a.jpg": PICTURES["a.jpg"], "new/b.png": PICTURES["a.png"]})
    before = files(Path(output))
    told = run(tmp_path / "told", *flags, environment=WITHOUT_RAY)
    assert told.code == 0, told.stderr
    assert "2 are new and 1 gone" in told.stderr
    assert "--extend" in told.stderr
    assert told.result["inputs"] == 3
    dry = run(tmp_path / "dry", *flags, "--extend", "--dry-run", environment=WITHOUT_RAY)
    counts = {name: dry.result[name] for name in ("new", "changed", "gone", "left")}
    assert counts == {"new": 2, "changed": 0, "gone": 1, "left": 2}
    assert files(Path(output)) == before

    extended = run(tmp_path / "extended", *flags, "--extend", environment=cluster)
    assert extended.code == 0, extended.stderr
    rows = Output.read(output).rows
    assert [row["key"] for row in rows] == ["a.jpg", "a.png", "gone.png", "new/b.png", "z.png"]
    assert all(row["status"] == "ok" for row in rows)
    kept = {name: then for name, then in before.items() if name.startswith("images/")}
    assert kept.items() <= files(Path(output)).items()


def test_overwrite_removes_nothing_that_it_did_not_write(
    disk: Done, tmp_path: Path, cluster: Mapping[str, str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(disk.output, output)
    # The second stands where an input that failed has its output, the third where one will be.
    foreign = ["notes.txt", "images/broken.png", "images/new.png", "metrics/mine.parquet"]
    write(str(output), dict.fromkeys(foreign, PICTURES["zz.png"]))
    write(f"{tmp_path}/in", {**INPUTS, "new.png": PICTURES["zz.png"]})
    shutil.copy2(Path(disk.input) / "a.png", tmp_path / "in")
    (old,) = output.glob("commits/*-000000.json")
    flags = ("--input", f"{tmp_path}/in", "--output", str(output), "--redact", "pixelate:16")
    flags += ("--overwrite", "--max-failure-rate", "1")
    ended = run(tmp_path / "log", *flags, environment=cluster)
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith("removed what the earlier run wrote\n")
    for name in foreign:
        assert (output / name).read_bytes() == PICTURES["zz.png"]
    assert not old.exists()
    planned = read_round(open_store(str(output)), 0)
    assert planned is not None
    assert planned.config["redact"] == "pixelate:16"
    (part,) = output.glob("metrics/part-*.parquet")
    (output / "metrics" / "mine.parquet").unlink()
    rows = {row["key"]: row for row in Output.read(str(output)).rows}
    assert part.exists()
    assert rows["new.png"]["failure"] == "output_conflict"
    assert {row["block_size"] for row in rows.values() if row["status"] == "ok"} == {16}
    assert [key for key, row in rows.items() if row["failure"]] == [
        *("broken.png", "empty.png", "new.png")
    ]


def test_an_input_that_fails_leaves_no_image(tmp_path: Path, cluster: Mapping[str, str]) -> None:
    """As when an attempt wrote it and died, and the input is gone before the next one."""
    output = tmp_path / "out"
    write(f"{tmp_path}/in", {"a.png": PICTURES["a.png"], "gone.png": PICTURES["zz.png"]})
    flags = ("--input", f"{tmp_path}/in", "--output", str(output), *FLAGS)
    first = run(tmp_path / "first", *flags, environment=cluster)
    assert first.code == 0, first.stderr

    for folder in ("commits", "metrics"):
        shutil.rmtree(output / folder)
    (output / "_SUCCESS").unlink()
    (tmp_path / "in" / "gone.png").unlink()
    flags += ("--max-failure-rate", "0.5")
    again = run(tmp_path / "again", *flags, environment=cluster)
    assert again.code == 0, again.stderr
    found = Output.read(str(output))
    assert [row["failure"] for row in found.rows] == [None, "not_found"]
    assert found.images.keys() == {"images/a.png"}


@pytest.mark.parametrize("case", [case for case in poison.runs() if case.name != "aborts"])
def test_poison_is_a_row_each(case: poison.Run, tmp_path: Path, cluster: Mapping[str, str]) -> None:
    root = tmp_path / "root"
    poison.make(root, case)
    before = files(root)
    flags = ["--input", f"{root}/input", "--output", f"{root}/output", *case.flags]
    flags += ["--originals", f"{root}/originals"] * case.originals
    flags += ["--masks", f"{root}/masks"] * case.masks
    flags += ["--max-bytes", str(poison.MAX_BYTES)]
    ended = run(tmp_path / "log", *flags, environment=cluster)
    failures = {each.key: each.failure and str(each.failure) for each in case.cases}
    share = sum(map(bool, failures.values())) / len(failures)
    assert share > 0.05
    assert ended.code == 1, ended.stderr
    assert len(ended.stderr.split("error: ")) == 2
    again = run(
        tmp_path / "again", *flags, "--max-failure-rate", f"{share + 1e-6}", environment=WITHOUT_RAY
    )
    assert again.code == 0, again.stderr

    output = Output.read(f"{root}/output")
    assert len(output.rows) == len(case.cases)
    rows = {row["key"]: row for row in output.rows}
    assert {key: row["failure"] for key, row in rows.items()} == failures
    assert len(output.images) == sum(row["status"] == "ok" for row in rows.values())
    for each in case.cases:
        detail = rows[each.key]["detail"]
        if each.failure is None:
            # Blocks of noise, black beside white: what would explain them lies beyond 0 and 255.
            said = (detail or "").replace("the result does not explain its input", "").strip("; ")
            assert each.note in said if each.note else not said, (each.key, detail)
        else:
            assert detail
            assert "\n" not in detail
    outside = {name: state for name, state in files(root).items() if not name.startswith("output")}
    assert outside == before


def test_help_lists_the_flags(tmp_path: Path) -> None:
    ended = run(tmp_path, "--help")
    assert ended.code == 0
    for flag in ("--input", "--output", "--redact", "--max-failure-rate", "--dry-run"):
        assert flag in ended.stdout
