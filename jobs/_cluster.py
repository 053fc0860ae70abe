"""The Ray cluster that a job runs on: the one of RAY_ADDRESS, else one of its own, and quiet."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jobs._command import say
from redaction_core.errors import UsageError

_CONNECT_S = 10
_PROBE_S = 5
_LOST_S = 45
"""Shorter than Ray's own minute, and enough for a head that is started anew with its state."""
_MISSES = 3
"""Least number of probes without an answer: this process may have slept itself."""
_STDERR = 2  # the descriptor


def join_cluster() -> None:
    """Join the cluster of RAY_ADDRESS (set by `ray job submit`), else start one here.

    Raises UsageError when no cluster answers there.
    """
    _prepare()
    import ray
    from ray.job_config import JobConfig

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    told = JobConfig()
    # Lines of JSON, with job, machine and worker, in the logs of the workers alone.
    told.set_py_logging_config(ray.LoggingConfig(encoding="JSON"))
    quiet["job_config"] = told
    context: Any  # Ray declares the base class alone
    if joins_a_cluster():
        address = os.environ["RAY_ADDRESS"]
        _refuse_dead_cluster(address)
        try:
            context = ray.init(**quiet)
        except (ConnectionError, ValueError) as error:
            raise _no_cluster(address) from error
    else:
        # No data pass through the object store, so the smallest one will do.
        context = ray.init(
            "local", include_dashboard=False, object_store_memory=100 * 2**20, **quiet
        )
    if joins_a_cluster():
        gcs = context.address_info["gcs_address"]
        threading.Thread(target=_guard, args=(gcs,), name="guard", daemon=True).start()
    logs = Path(context.address_info["session_dir"], "logs")
    _part_stderr(logs)
    _part_stdout(logs)


def joins_a_cluster() -> bool:
    """Say whether the cluster is one that runs already."""
    return "RAY_ADDRESS" in os.environ


def _prepare() -> None:
    """Set what Ray reads from the environment when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    # Of Ray Train: no folder changed under a worker's feet, and no figures that nobody reads.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    # It may ask for the room of a machine that has just died, and asks anew after so long. What
    # room there is, it gets at once; a cluster that grows is asked again and again.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "5")
    if "RAY_ADDRESS" in os.environ:
        return
    # Nobody watches a cluster of our own, and what its processes report to each other takes a tenth
    # of a core, for which all workers of a training wait.
    for name in ("RAY_task_events_report_interval_ms", "RAY_enable_metrics_collection"):
        os.environ.setdefault(name, "0")
    if "RAY_AUTH_MODE" not in os.environ:
        # A cluster of our own: Ray would write a token into the home folder, for all later ones.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _refuse_dead_cluster(address: str) -> None:
    if "://" in address:
        raise UsageError(
            f"RAY_ADDRESS={address}: a job is no client of Ray's; submit it (ray job submit), or "
            "name the head's HOST:PORT"
        )
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        return  # a name that only Ray resolves
    try:
        # Ray itself tries for a quarter of an hour.
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        raise _no_cluster(address) from error


def _guard(gcs: str) -> None:
    """End the process, and say why, where the head of the cluster does not answer any more.

    Ray ends it too, after a minute, without a word that reaches the person who waits.
    """
    host, _, port = gcs.rpartition(":")
    answered_s, misses = time.monotonic(), 0
    while misses < _MISSES or time.monotonic() - answered_s < _LOST_S:
        misses += 1
        with (
            contextlib.suppress(OSError),
            # In an address, IPv6 stands in brackets.
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S),
        ):
            answered_s, misses = time.monotonic(), 0
        time.sleep(_PROBE_S)
    say(
        f"error: the Ray cluster at {gcs} does not answer any more: what is done is in the output; "
        "run the same command again on a cluster that runs (jobs.train with --resume)"
    )
    os._exit(1)


def _no_cluster(address: str) -> UsageError:
    return UsageError(
        f"no Ray cluster answers at RAY_ADDRESS={address}: start it, name its HOST:PORT, "
        "or unset the variable"
    )


def _part_stderr(logs: Path) -> None:
    """Send what Ray's C++ code prints to the driver's log, and what Python prints where it went.

    For every pool Ray warns of restarts that fail if the pool's constructor arguments are lost;
    they are lost with the driver alone, which owns them.
    """
    if sys.stderr is not sys.__stderr__ or not logs.is_dir():
        return
    sys.stderr = os.fdopen(os.dup(_STDERR), "w", buffering=1)
    with (logs / f"driver-{os.getpid()}.err").open("ab") as log:
        os.dup2(log.fileno(), _STDERR)


def _part_stdout(logs: Path) -> None:
    """Send what Ray prints of its cluster's troubles to a log: stdout is for the result alone."""
    if sys.stdout is sys.__stdout__ and logs.is_dir():
        sys.stdout = (logs / f"driver-{os.getpid()}.out").open("a", buffering=1)
