"""Where a run keeps what, below its output location."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from redaction_core.errors import UsageError
from redaction_core.storage import Store

PLAN_FILE: Final = "plan.json"
"""Of the first round."""
PLAN: Final = "plan/"
COMMITS: Final = "commits/"
ATTEMPTS: Final = "attempts/"
IMAGES: Final = "images/"
MARKS: Final = "marks/"
SUMMARY: Final = "summary.json"
INFO: Final = "run.json"
SUCCESS: Final = "_SUCCESS"

_PART: Final = re.compile(r"[a-z]+/part-(\d{6,})-[0-9a-f]{16}\.parquet")
_PLAN_PART: Final = re.compile(r"plan/\d{6,}-[0-9a-f]{16}\.parquet")
_MARK: Final = re.compile(r"marks/[0-9a-f]{16}-\d{6,}-[0-9a-f]{16}\.json")
_COMMIT: Final = re.compile(r"commits/[0-9a-f]{16}-(\d{6,})\.json")
_ATTEMPT: Final = re.compile(r"attempts/[0-9a-f]{16}-\d{6,}-(\d+)")


def round_key(number: int) -> str:
    """Name the plan file of a round."""
    return f"plan-{number:04d}.json" if number else PLAN_FILE


def companion_key(folder: str, output: str) -> str:
    """Name the PNG file that belongs to an output; no two outputs of a run share one."""
    return f"{folder}/{output}" if output.lower().endswith(".png") else f"{folder}/{output}.png"


def attempt_number(key: str) -> int:
    """Read the number of an attempt from the name of its mark; 0 for a name that is not ours."""
    found = _ATTEMPT.fullmatch(key)
    return int(found[1]) if found else 0


def committed_shard(key: str) -> int:
    """Read the shard's number from the name of a commit; -1 for a name that is not ours."""
    found = _COMMIT.fullmatch(key)
    return int(found[1]) if found else -1


def shard_of_part(key: str) -> int:
    """Read the shard's number from the name of a part; -1 for a name that is not ours."""
    found = _PART.fullmatch(key)
    return int(found[1]) if found else -1


def is_mark(key: str) -> bool:
    """Say whether a name is that of the record of a marked part."""
    return _MARK.fullmatch(key) is not None


def is_plan_part(key: str) -> bool:
    """Say whether a name is that of a plan's part."""
    return _PLAN_PART.fullmatch(key) is not None


def read_json(store: Store, key: str) -> dict[str, Any]:
    """Read one of the run's JSON files.

    Raises:
        ObjectMissingError: there is none.
        UsageError: it is damaged.
    """
    try:
        found = json.loads(store.read(key).data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise damaged(store, key)
    return found


def damaged(store: Store, key: str) -> UsageError:
    """Say that one of the run's own files cannot be read."""
    return UsageError(f"{key} in {store.location} is damaged: choose another output")


def json_bytes(content: Mapping[str, object]) -> bytes:
    """Write JSON as people read it, one way only."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def sha16(data: bytes) -> str:
    """Hash to 16 hex digits, for names."""
    return hashlib.sha256(data).hexdigest()[:16]
