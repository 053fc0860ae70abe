"""How many workers a training has, for machines of all kinds."""

from typing import Any

import pytest

from jobs._crew import Crew, Waiting, size_crew
from redaction_core.errors import UsageError

FOUR = {"CPU": 4.0}
HEAD: dict[str, float] = {}
TWO_GPUS = {"CPU": 9.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("machines", "workers", "cpus", "gpu", "found"),
    [
        ([FOUR], None, None, False, (1, 1, 4)),
        ([HEAD, FOUR, FOUR], None, None, False, (2, 2, 4)),
        ([FOUR], (2, 2), None, False, (2, 2, 2)),
        ([FOUR], (1, 3), None, False, (1, 3, 1)),
        ([FOUR, {"CPU": 2.0}], None, None, False, (2, 2, 2)),
        ([FOUR], (2, 2), 1, False, (2, 2, 1)),
        ([FOUR, TWO_GPUS], None, None, True, (2, 2, 4)),
        ([TWO_GPUS, TWO_GPUS], (1, 4), None, True, (1, 4, 4)),
        ([{"CPU": 1.0}], (2, 2), None, False, None),
        ([FOUR], None, None, True, None),
        ([FOUR], (1, 1), 5, False, None),
        ([TWO_GPUS], (3, 3), 1, True, None),
    ],
)
def test_a_crew_takes_what_there_is(
    machines: Any,  # noqa: ANN401 - short
    workers: tuple[int, int] | None,
    cpus: int | None,
    gpu: bool,  # noqa: FBT001 - pytest's
    found: tuple[int, int, int] | None,
) -> None:
    if found is None:
        with pytest.raises(UsageError, match="not fit into this machine"):
            size_crew(machines, workers, cpus, gpu=gpu, grows=False)
        return

    crew = size_crew(machines, workers, cpus, gpu=gpu, grows=False)

    assert crew == Crew(least=found[0], most=found[1], cpus=found[2], gpu=gpu)


def test_a_cluster_that_may_grow_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    crew = size_crew([FOUR], (3, 3), 2, gpu=False, grows=True)

    assert (crew.least, crew.most) == (3, 3)
    assert "3 workers of 2 CPUs do not fit into the cluster yet" in capsys.readouterr().err


def test_a_cluster_without_gpus_is_no_place_for_a_worker_with_one() -> None:
    with pytest.raises(UsageError, match="a worker of 4 CPUs and a GPU does not fit into the clus"):
        size_crew([FOUR, HEAD], None, 4, gpu=True, grows=True)


def test_who_waits_for_workers_is_told_at_times(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("jobs._crew.time.monotonic", lambda: now[0])
    waiting = Waiting(Crew(least=3, most=3, cpus=2, gpu=False))
    lines = []
    for now_s, machines, up in (
        (29, [FOUR], False),
        (31, [FOUR], False),
        (60, [FOUR], False),
        (92, [FOUR, FOUR], False),
        (153, [FOUR, FOUR], True),
        (184, [FOUR], True),  # a machine went away, and with it workers
    ):
        now[0] = now_s
        waiting.look(lambda found=machines: found, up=up)  # type: ignore[misc]
        lines.append(capsys.readouterr().err)

    line = "waiting for 3 workers of 2 CPUs: the cluster has room for "
    assert lines == [
        *("", f"{line}2\n", "", f"{line}4, unless something else takes it or a disk is full\n"),
        *("", f"{line}2\n"),
    ]
