"""A database in a temporary file: limited, shut off, and gone at the end."""

import resource
import tempfile
from pathlib import Path

import duckdb
import pytest

from redaction_core.errors import StorageError
from redaction_core.scratch import scratch_database


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def setting(database: duckdb.DuckDBPyConnection, name: str) -> object:
    found = database.execute(f"select current_setting('{name}')").fetchone()
    assert found is not None
    return found[0]


def test_it_lies_in_the_temporary_folder_and_nothing_is_left(temporary: Path) -> None:
    with scratch_database() as database:
        database.execute("create table t as select range as n from range(100000)")
        (folder,) = temporary.iterdir()
        assert folder.name.startswith("redaction-scratch-")
        assert (folder / "scratch.duckdb").exists()
        assert Path(str(setting(database, "temp_directory"))).is_relative_to(folder)
    assert list(temporary.iterdir()) == []
    with pytest.raises(duckdb.ConnectionException):
        database.execute("select 1")


def test_nothing_is_left_after_an_error(temporary: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_database() as database:  # noqa: PT012
        database.execute("create table t (n int)")
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_not_there_or_full_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match=r"\Acannot sort in [^\n]+TMPDIR\Z"), scratch_database():
        pass
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with (
            pytest.raises(StorageError, match=r"\Acannot sort in [^\n]+TMPDIR\Z"),
            scratch_database() as database,
        ):
            database.execute("create table t as select sha256(range::varchar) from range(200000)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_do_not_know_of_each_other(temporary: Path) -> None:
    with scratch_database() as one, scratch_database() as other:
        one.execute("create table t as select 1 as n")
        other.execute("create table t as select 2 as n")
        assert one.execute("select n from t").fetchall() == [(1,)]
        assert len(list(temporary.iterdir())) == 2


@pytest.mark.usefixtures("temporary")
def test_memory_threads_and_extensions_are_limited() -> None:
    with scratch_database() as database:
        limit, unit = str(setting(database, "memory_limit")).split()
        assert (unit, float(limit) <= 512) == ("MiB", True)
        assert 1 <= int(str(setting(database, "threads"))) <= 4
        assert setting(database, "autoinstall_known_extensions") is False
        assert setting(database, "autoload_known_extensions") is False


def test_what_does_not_fit_in_memory_is_sorted_on_disk(temporary: Path) -> None:
    with scratch_database() as database:
        database.execute("set memory_limit = '24MB'")
        database.execute("set threads = 1")
        database.execute(
            "create table t as select sha256(range::varchar) as name from range(600000)"
        )
        found = database.execute("select name from t order by name")
        names: list[str] = []
        spilt = False
        while some := found.fetchmany(20_000):
            spilt = spilt or any(temporary.rglob("*.tmp"))
            names += [name for (name,) in some]
        assert spilt
    assert len(names) == 600_000
    assert names == sorted(names)
    assert list(temporary.iterdir()) == []
