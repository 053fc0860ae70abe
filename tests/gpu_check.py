"""Run everything that can run on a GPU, small, and say what became of it: a line a check.

    python -m tests.gpu_check

needs no data and no network. Where there is no GPU, what can be checked on the CPU is, and all else
is told as not run. Every line ends with the figure that was found and, in brackets, the bar that it
has to meet. A healthy machine with two GPUs prints PASS in every line and ends with "53 passed, 0
failed, 0 not run"; with one GPU, one line is not run: the workers that NCCL joins take a GPU each.
The exit code is 1 where a check failed, and with --require-gpu also where one was not run.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.device_checks import Check

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Run everything that can run on a GPU, small, and say what became of it: a line a check.

    A healthy machine with two GPUs prints PASS in every line and ends with "0 failed, 0 not run";
    with one GPU, the line of NCCL is not run. Without a GPU, what can be checked on the CPU is.
    """

    require_gpu: bool = False
    """Fail where a check is not run, too."""
    only: str = ""
    """Run the checks alone whose names contain this."""
    keep: Path | None = None
    """Folder for what the checks write; default: a temporary one."""


def main(flags: Flags) -> int:
    """Run the checks; gives the exit code."""
    import torch

    from tests import device_checks, device_commands

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = f"{gpus} GPUs ({torch.cuda.get_device_name(0)})" if gpus else "no GPU"
    print(f"torch {torch.__version__}, {named}", flush=True)
    counts = dict.fromkeys(("PASS", "FAIL", "NOT RUN"), 0)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as temporary:
        folder = flags.keep or Path(temporary)
        for check in (*device_checks.checks(), *device_commands.checks()):
            if flags.only not in check.name:
                continue
            verdict, line = _verdict(check, folder, gpus)
            counts[verdict] += 1
            print(f"{verdict} {check.name}: {line}", flush=True)
    passed, failed, not_run = counts.values()
    why = f": {_missing(gpus)} here" if not_run else ""
    print(f"{passed} passed, {failed} failed, {not_run} not run{why}")
    return int(failed > 0 or (flags.require_gpu and not_run > 0))


def _verdict(check: Check, folder: Path, gpus: int) -> tuple[str, str]:
    from tests.device_checks import NotMetError

    if check.gpus > gpus:
        return "NOT RUN", _missing(gpus)
    started = time.monotonic()
    try:
        found = check.run(folder)
    except NotMetError as error:
        return "FAIL", str(error)
    except Exception as error:  # noqa: BLE001 - the other checks are to run all the same
        traceback.print_exc()
        return "FAIL", " ".join(f"{type(error).__name__}: {error}".split())[:300]
    line = f"{found.figure} ({found.bar}), {time.monotonic() - started:.0f} s"
    return "PASS" if found.passed else "FAIL", line


def _missing(gpus: int) -> str:
    return "one GPU" if gpus else "no GPU"


if __name__ == "__main__":
    # So that it runs by its path, too.
    sys.path.insert(0, str(ROOT))
    import tyro

    sys.exit(main(tyro.cli(Flags)))
