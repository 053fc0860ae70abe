"""The poison folder itself: what the decoder says of each input, and the decoder that aborts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from redaction_core.errors import Failure, InputError
from redaction_core.images import decode
from tests import poison

RUNS = {run.name: run for run in poison.runs()}
FROM_BYTES = {
    Failure.EMPTY_FILE,
    Failure.NOT_AN_IMAGE,
    Failure.TOO_MANY_PIXELS,
    Failure.TRUNCATED,
    Failure.UNSUPPORTED,
}


@pytest.mark.parametrize("name", RUNS)
def test_every_name_is_written_once(name: str, tmp_path: Path) -> None:
    run = RUNS[name]

    poison.make(tmp_path, run)

    assert len({case.key for case in run.cases}) == len(run.cases)
    for case in run.cases:
        assert os.path.lexists(os.fsencode(tmp_path / "input") + b"/" + os.fsencode(case.name))
    assert (tmp_path / "originals").exists() == run.originals
    assert (tmp_path / "masks").exists() == run.masks


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_the_decoder_agrees(run: poison.Run) -> None:
    for case in run.cases:
        if case.kind != "file":
            continue
        try:
            outcome, notes = None, decode(case.data).notes
        except InputError as error:
            outcome, notes = error.failure, ()
        assert outcome == (case.failure if case.failure in FROM_BYTES else None), case.key
        if case.failure is None:
            assert (case.note is None) == (notes == ()), case.key
            assert case.note is None or case.note in "; ".join(notes), case.key


def test_every_failure_of_an_input_alone_is_there() -> None:
    shown = {case.failure for run in RUNS.values() for case in run.cases}
    # These take an event during the run, or a machine that is too small.
    events = {
        Failure.NOT_FOUND,
        Failure.INPUT_CHANGED,
        Failure.OUTPUT_CONFLICT,
        Failure.OUT_OF_MEMORY,
    }

    # And these happen to URLs, or to those who ask for more pixels than there are.
    of_data_sets = {
        Failure.TOO_SMALL,
        Failure.BAD_URL,
        Failure.DNS,
        Failure.PRIVATE_ADDRESS,
        Failure.CONNECTION,
        Failure.TIMEOUT,
        Failure.INCOMPLETE_BODY,
        Failure.FORBIDDEN,
        Failure.RATE_LIMITED,
        Failure.CLIENT_ERROR,
        Failure.SERVER_ERROR,
        Failure.BAD_REDIRECT,
        Failure.ROBOTS_TXT,
        Failure.ROBOTS_TAG,
    }

    assert set(Failure) - shown == events | of_data_sets


@pytest.mark.parametrize("armed", [False, True])
def test_only_where_it_is_asked_for_the_decoder_aborts(tmp_path: Path, *, armed: bool) -> None:
    code = "import sys; from redaction_core.images import decode, pixel_count; "
    code += "data = open(sys.argv[1], 'rb').read(); print(pixel_count(data), flush=True); "
    code += "print(decode(data).pixels.shape)"
    poison.make(tmp_path, RUNS["aborts"])
    path = [str(poison.ABORTING_PATH)] if armed else []

    for case in RUNS["aborts"].cases[-2:]:
        command = [sys.executable, "-c", code, str(tmp_path / "input" / case.key)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        aborts = armed and case.failure is Failure.WORKER_CRASH
        assert done.returncode == (-signal.SIGABRT if aborts else 0)
        assert done.stdout.startswith(b"3072\n")  # the header alone does no harm
