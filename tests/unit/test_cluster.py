"""What a command says of a cluster that goes away."""

import os
import socket

import pytest

from jobs import _cluster
from tests.ports import free_ports


class ExitedError(Exception):
    """Instead of the end of the process."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise ExitedError(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(_cluster, "_LOST_S", 0.4)
    monkeypatch.setattr(_cluster, "_PROBE_S", 0.05)


def test_a_head_that_is_gone_ends_the_process_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (port,) = free_ports(1)
    with pytest.raises(ExitedError) as left:
        _cluster._guard(f"127.0.0.1:{port}")  # noqa: SLF001 - the process it ends is this one
    assert left.value.args == (1,)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the Ray cluster at 127.0.0.1:{port} does not answer any more")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_head_that_answers_is_left_alone(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    with socket.create_server((host.strip("[]"), 0), family=family) as head:
        address = f"{host}:{head.getsockname()[1]}"
        probes = 0

        def count(_: float) -> None:
            nonlocal probes
            probes += 1
            head.accept()[0].close()
            if probes == 20:
                raise ExitedError

        monkeypatch.setattr(_cluster.time, "sleep", count)
        with pytest.raises(ExitedError) as left:
            _cluster._guard(address)  # noqa: SLF001 - as above
        assert left.value.args == ()


def test_a_process_that_slept_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a machine that was paused, all clocks jump.
    (port,) = free_ports(1)
    naps = 0

    def sleep(_: float) -> None:
        nonlocal naps
        naps += 1

    monkeypatch.setattr(_cluster, "_LOST_S", -1.0)
    monkeypatch.setattr(_cluster.time, "sleep", sleep)
    with pytest.raises(ExitedError):
        _cluster._guard(f"127.0.0.1:{port}")  # noqa: SLF001 - as above
    assert naps == 3
