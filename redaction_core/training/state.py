"""Checkpoints of a run: all that its next steps depend on, in storage."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from safetensors import SafetensorError
from safetensors.torch import load, save

from redaction_core.errors import InputError, ObjectMissingError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from redaction_core.storage import Store

CHECKPOINTS: Final = "checkpoints/"
CHECKPOINT: Final = r"step-(\d{8,})(?:\.json|-[0-9a-f]{12}\.safetensors)"
"""Pattern of the names of files below it."""
_NAME: Final = re.compile(CHECKPOINTS + CHECKPOINT)
_KEPT: Final = 2
_MAX_BYTES: Final = 1 << 36


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A moment of a run, between two steps."""

    step: int
    """Steps taken."""
    weights: bytes
    """Safetensors: what `Trainer.tensors` gives."""
    record: Mapping[str, Any]
    """Everything else, as JSON values."""

    @classmethod
    def of(cls, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Checkpoint:
        """Put one together."""
        return cls(step=step, weights=save(dict(tensors)), record=record)

    def tensors(self) -> dict[str, Tensor]:
        """Give the tensors by name."""
        return load(self.weights)


_DAMAGE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What JSON of another shape, or nested beyond reason, comes to."""


class Checkpoints:
    """The checkpoints of one recipe below an output; the last two are kept.

    Weights go first, under a name with their hash; the small file that names them goes last. So a
    writer that dies, or two that write at once, leave nothing that is taken for what it is not.
    """

    def __init__(self, store: Store, digest: str, say: Callable[[str], None]) -> None:
        """Take the output's store, the hash of the recipe and its data, and who tells a person."""
        self._store = store
        self._digest = digest
        self._say = say
        self._told = False

    def write(self, checkpoint: Checkpoint) -> None:
        """Write one, and remove those that it makes needless. Raises StorageError.

        Those that cannot be removed are told once, and left.
        """
        sha256 = hashlib.sha256(checkpoint.weights).hexdigest()
        base = f"{CHECKPOINTS}step-{checkpoint.step:08}"
        weights = f"{base}-{sha256[:12]}.safetensors"
        self._store.put(weights, checkpoint.weights)
        told = {
            "step": checkpoint.step,
            "run": self._digest,
            "weights": weights,
            "sha256": sha256,
            "record": checkpoint.record,
            "record_sha256": _hash(checkpoint.record),
        }
        self._store.put(f"{base}.json", (json.dumps(told) + "\n").encode())
        try:
            self._prune(checkpoint.step)
        except StorageError as error:
            if not self._told:
                self._say(f"older checkpoints stay: {error}")
            self._told = True

    def _prune(self, newest: int) -> None:
        names = {
            entry.key: match for entry in self._list() if (match := _NAME.fullmatch(entry.key))
        }
        steps = {int(match[1]) for key, match in names.items() if key.endswith(".json")}
        kept = sorted(step for step in steps if step <= newest)[-_KEPT:]
        # Of newer ones, which another writer may be at, nothing is touched.
        old = [key for key, match in names.items() if kept and int(match[1]) < kept[0]]
        # What names weights goes before them.
        self._store.delete(sorted(old, key=lambda key: (not key.endswith(".json"), key)))

    def newest(self) -> Checkpoint | None:
        """Read the newest that is whole; damaged ones are passed over with a word.

        Raises StorageError when storage does not answer.
        """
        keys = [entry.key for entry in self._list() if entry.key.endswith(".json")]
        matches = [match for key in keys if (match := _NAME.fullmatch(key))]
        for match in sorted(matches, key=lambda match: int(match[1]), reverse=True):
            try:
                found = self._read(match[0])
            except ObjectMissingError:
                reason = "its weights are missing"
            except (*_DAMAGE, InputError, SafetensorError) as error:
                reason = " ".join(str(error).split())[:200]
            else:
                return found
            self._say(f"passing over {match[0]}: {reason}")
        return None

    def _read(self, key: str) -> Checkpoint:
        told = json.loads(self._store.read(key, max_bytes=1 << 26).data)
        if told["run"] != self._digest:
            raise ValueError("it is of another run")
        weights = self._store.read(told["weights"], max_bytes=_MAX_BYTES).data
        if hashlib.sha256(weights).hexdigest() != told["sha256"]:
            raise ValueError("its weights are damaged")
        if _hash(told["record"]) != told["record_sha256"]:
            raise ValueError("its record is damaged")
        load(weights)
        return Checkpoint(step=int(told["step"]), weights=weights, record=told["record"])

    def _list(self) -> list[Any]:
        return list(self._store.list(CHECKPOINTS, missing_ok=True))


def _hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
