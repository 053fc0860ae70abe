"""A command answers at once: what it imports first is light."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERBS = sorted(path.stem for path in (ROOT / "jobs").glob("[a-z]*.py"))
HEAVY = ("torch", "ray", "boto3", "obstore", "pyarrow", "cv2", "PIL", "skimage")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_loads_no_heavy_library_before_it_knows_its_flags(verb: str) -> None:
    code = f"import sys, jobs.{verb}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
