"""`python -m jobs.verify`: an output that is whole, and what is found of every kind of damage."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from redaction_core.commits import Run
from redaction_core.errors import Failure
from redaction_core.storage import open_store
from redaction_core.verification import Checked, check_shard, check_whole, checks_of
from tests.command import run
from tests.poison import packed, picture
from tests.unit.small_data_set import Given, do_run, finish, lost, png, task

KEYS = ("a.png", "b.jpg", "c/d.png", "e.png", "f.png", "g.png")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the output of a run of two shards, one of its inputs broken."""
    folder = tmp_path_factory.mktemp("whole")
    store = open_store(str(folder / "in"))
    for number, key in enumerate(KEYS):
        store.put(key, packed(picture(32, 32, seed=number)))
    store.put("broken.png", b"no image")
    flags = ("--input", str(folder / "in"), "--output", str(folder / "out"), "--uncertainty")
    ended = run(
        folder, *flags, "--redact", "pixelate:4", "--shard-size", "4", "--max-failure-rate", "0.5"
    )
    assert ended.code == 0, ended.stderr
    return folder / "out"


@pytest.fixture
def output(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def checked(output: Path) -> Checked:
    """Look at an output in this process."""
    found = Run.read(open_store(str(output)))
    result = Checked()
    for check in checks_of(found):
        result += check_shard(check)
    return result + check_whole(found, result)


def problems(output: Path) -> list[tuple[str, str]]:
    return [(each.where, each.what) for each in checked(output).problems]


def part(output: Path, number: int = 0) -> Path:
    (found,) = (output / "metrics").glob(f"part-{number:06d}-*")
    return found


def test_an_output_that_is_whole(output: Path, tmp_path: Path) -> None:
    assert problems(output) == []
    assert checked(output).rows["metrics"] == len(KEYS) + 1

    ended = run(tmp_path, "--output", str(output), verb="verify")

    assert ended.code == 0, ended.stderr
    assert (ended.result["status"], ended.result["problems"]) == ("intact", 0)


def test_damage_is_told_and_ends_with_1(output: Path, tmp_path: Path) -> None:
    (output / "images" / "e.png").unlink()

    ended = run(tmp_path, "--output", str(output), verb="verify")

    assert ended.code == 1
    assert ended.result["status"] == "damaged"
    assert "images/e.png is missing" in ended.stderr.splitlines()


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def double(file: Path) -> None:
    digits = "0" if file.stem[-1] != "0" else "1"
    shutil.copy(file, file.with_stem(file.stem[:-1] + digits))


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        (lambda out: flip(out / "images" / "f.png"), "images/f.png", "was changed"),
        (lambda out: (out / "images" / "a.png").unlink(), "images/a.png", "is missing"),
        (lambda out: part(out).unlink(), "metrics/part-000000-", "is missing"),
        (lambda out: flip(part(out, 1)), "metrics/part-000001-", "was changed"),
        (lambda out: double(part(out)), "metrics/part-000000-", "one part too many"),
        (
            lambda out: shutil.copy(part(out), out / "metrics" / "copy.parquet"),
            "metrics/copy.parquet",
            "of no shard",
        ),
        (lambda out: next((out / "commits").iterdir()).unlink(), "commits/", "is missing"),
        (lambda out: flip(next((out / "plan").iterdir())), "plan/", "was changed"),
        (lambda out: (out / "_SUCCESS").unlink(), "_SUCCESS", "is missing"),
        (lambda out: (out / "summary.json").unlink(), "summary.json", "is missing"),
        (lambda out: (out / "summary.json").write_text("{"), "summary.json", "cannot be read"),
        (lambda out: (out / "run.json").unlink(), "run.json", "is missing"),
        (lambda out: (out / "report.html").unlink(), "report.html", "is missing"),
        (lambda out: (out / "uncertainty" / "a.png").unlink(), "uncertainty/a.png", "is missing"),
        (lambda out: flip(out / "uncertainty" / "a.png"), "uncertainty/a.png", "cannot be read"),
    ],
)
def test_damage_is_found_and_named(
    output: Path, damage: Callable[[Path], object], where: str, what: str
) -> None:
    damage(output)

    found = problems(output)

    assert any(place.startswith(where) and what in text for place, text in found), found


def test_failures_that_a_last_pass_wrote(tmp_path: Path) -> None:
    made = task({"a": Given(data=png(1)), "b": Given(data=png(2)), "c": lost(Failure.EMPTY_FILE)})
    finish(do_run(open_store(str(tmp_path)), made, shard_size=2), made)
    assert problems(tmp_path) == []

    (written,) = (tmp_path / "failures").iterdir()
    copy = written.with_name(written.name.replace("000001", "000000"))
    shutil.copy(written, copy)
    assert problems(tmp_path) == [("failures/", "2 rows for 1 failed inputs")]
    copy.unlink()
    double(written)
    assert "one part too many" in str(problems(tmp_path))


def test_a_row_of_another_input(output: Path) -> None:
    one, two = part(output, 0), part(output, 1)
    one.write_bytes(two.read_bytes())  # its name then says that it was changed, too

    assert [where for where, _ in problems(output)] == [f"metrics/{one.name}", "metrics/"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    ended = run(tmp_path, "--output", str(tmp_path / "empty"), verb="verify")

    assert ended.code == 2
    assert "holds no run" in ended.error
