"""Replay infra/Dockerfile without an engine: `python -m tests.evaluation.replay_dockerfile`.

A new folder stands for the root of the file system, and a new virtual environment of Python 3.11
with the base image's version of Ray for that image. Files are copied and commands are run as the
Dockerfile says; then a job is run there. An instruction that is not known here ends it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tests.evaluation.validate_manifests import INFRA, ROOT, base_tag

IMAGES = 4
_OURS = "redaction_core", "jobs"


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return name and rest of each instruction, lines that are continued joined."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line]


class Replay:
    """What has been built so far."""

    def __init__(self, root: Path, arguments: Mapping[str, str]) -> None:
        self.root = root
        self.folder = root
        self.base = ""
        self.user = "root"
        self.environment: dict[str, str] = {}
        self._given = arguments
        self._arguments: dict[str, str] = {}

    def run(self, name: str, rest: str) -> None:
        """Do one instruction; raises ValueError for one that is not known here."""
        match name:
            case "ARG":
                key, _, default = rest.partition("=")
                if value := self._given.get(key, default):
                    self._arguments[key] = value
            case "FROM":
                self.base = self._filled(rest)
                self._arguments = {}  # they end with the stage, as Docker has it
            case "USER":
                self.user = rest
            case "WORKDIR":
                self.folder = self.root / self._filled(rest).lstrip("/")
                self.folder.mkdir(parents=True, exist_ok=True)
            case "ENV":
                self.environment |= dict(each.split("=", 1) for each in shlex.split(rest))
            case "COPY":
                self._copy([each for each in rest.split() if not each.startswith("--")])
            case "RUN":
                self.call(["bash", "-ec", rest])
            case _:
                raise ValueError(f"{name} {rest}: this replay does not know the instruction")

    def call(self, command: list[str]) -> str:
        """Run a command in the image; returns its stdout. Raises where it fails."""
        path = f"{self.root / 'venv' / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
        # What the packages' client is set up with here, and nothing else of ours.
        kept = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
        own = {"PATH": path, "HOME": str(self.root / "home"), "LANG": "C.UTF-8"}
        environment = kept | own | self._arguments | self.environment
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"{shlex.join(command)} failed:\n{result.stdout}\n{result.stderr}")
        return result.stdout

    def _filled(self, text: str) -> str:
        known = self._arguments
        return re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ""), text)

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        for source in sources:
            place = self.folder / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place / Path(source).name if target == "./" else place)


def main() -> int:
    """Print a line a check."""
    steps = instructions((INFRA / "Dockerfile").read_text())
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        replay = Replay(Path(folder), {"PLATFORM": "cpu"})
        (replay.root / "home").mkdir()
        subprocess.run([sys.executable, "-m", "venv", replay.root / "venv"], check=True)
        replay.call(["pip", "install", "--quiet", f"ray[default]=={base_tag()}"])
        print(f"PASS a base with Ray {base_tag()} on Python {sys.version.split()[0]}", flush=True)
        for name, rest in steps:
            replay.run(name, rest)
            print(f"PASS {name} {rest}", flush=True)
        check(replay.base == f"rayproject/ray:{base_tag()}-py311-cpu", f"base {replay.base}")
        check(replay.user not in {"root", "0"}, f"user {replay.user}")
        return try_out(replay)


def try_out(replay: Replay) -> int:
    """Use the image as a cluster does."""
    check("--input" in replay.call(["python", "-m", "jobs.reconstruct", "--help"]), "--help")
    # Ray starts a job in whatever folder: the installed packages must do.
    replay.folder = replay.root / "elsewhere"
    (replay.folder / "in").mkdir(parents=True)
    where = "import jobs, redaction_core; print(jobs.__file__, redaction_core.__file__)"
    found = replay.call(["python", "-c", where]).split()
    check(all("site-packages" in each for each in found), f"{' and '.join(_OURS)} are installed")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        blocks = rng.integers(0, 256, (16, 16), dtype=np.uint8)
        picture = np.kron(blocks, np.ones((4, 4), np.uint8))
        Image.fromarray(picture).save(replay.folder / "in" / f"{number}.png")
    flags = ["--input", "in", "--output", "out", "--workers", "1"]
    printed = replay.call(["python", "-m", "jobs.reconstruct", *flags])
    total = json.loads(printed.splitlines()[-1])
    check(total["status"] == "complete", f"a run of {IMAGES} images: {total['status']}")
    written = len(list((replay.folder / "out" / "images").iterdir()))
    check(written == IMAGES, f"{written} images were written")
    return 0


def check(passed: bool, what: str) -> None:  # noqa: FBT001 - it says itself what it is
    """Print a line; end where it did not pass."""
    print("PASS" if passed else "FAIL", what, flush=True)
    if not passed:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
