"""Run every check in turn up to the first that fails: `python -m tests [pytest arguments]`."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
    # A test file that cannot even be imported is told in seconds, not after all others have run.
    ("pytest", "--collect-only", "-qqq"),
    # Most tests wait for Ray more than they compute; files at once share nothing but the machine.
    ("pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"),
)


def main(pytest_arguments: Sequence[str]) -> int:
    """Return the exit code of the first stage that fails, else 0."""
    scripts = sysconfig.get_path("scripts")
    environment = os.environ | {"PATH": os.pathsep.join((scripts, os.environ.get("PATH", "")))}
    for stage in STAGES:
        command = [*stage, *pytest_arguments] if stage[0] == "pytest" else list(stage)
        print("==>", *command, flush=True)
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if code:
            print(f"==> failed: {' '.join(command)} (exit {code})", flush=True)
            return code
    print("==> all checks passed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
