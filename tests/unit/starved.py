"""Run networks in a process that is refused memory, and print what became of it as JSON.

`python -m tests.unit.starved` with the variables of `ENVIRONMENT`; a process of its own, as the
limit is the whole process's.
"""

import ctypes
import gc
import json
import resource
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from redaction_core.errors import InputError
from redaction_core.images import encode
from redaction_core.inference import Restorer
from redaction_core.loading import Task
from redaction_core.plan import planned
from redaction_core.reconstruction import Reconstruction
from redaction_core.redaction import Pixelate
from redaction_core.storage import open_store
from tests.unit.networks import enhanced, filled, holes, noise, restorer

# Large blocks come from the system and go back to it at once, and threads take little for
# themselves, so that the room is what the limit says.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536:glibc.malloc.arena_max=1"}
ROOM_BYTES = 11 * 2**20
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
_LIBC = ctypes.CDLL(None)

_Result = TypeVar("_Result")


def limited(work: Callable[[], _Result], room_bytes: int = ROOM_BYTES) -> _Result | str:
    """Do work with little more memory than is used now; gives its error as text."""
    gc.collect()
    _LIBC.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return work()
    except InputError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)


def work_on(under_test: Restorer, count: int, side: int) -> Callable[[], list[Tensor]]:
    if under_test.fills_holes:
        images, hidden = list(noise(count, 3, side, side)), list(holes(count, side, side))
        return lambda: filled(under_test, images, hidden)
    images = list(noise(count, 1, side, side))
    return lambda: enhanced(under_test, images, Pixelate(block=4))


def halved(name: str, precision: torch.dtype) -> dict[str, object]:
    """Sizes of the batches that were tried, and whether their results are those of the whole."""
    under_test = restorer(name, precision)
    side = 130 if under_test.fills_holes else 260
    # So that oneDNN has its code for all these sizes: without memory for it, it gives up for good.
    for count in (1, 2, 4, 8):
        work_on(under_test, count, side)()
    work = work_on(under_test, 16, side)
    expected = work()
    sizes: list[int] = []
    under_test.network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    found = limited(work)
    same = not isinstance(found, str) and all(map(torch.equal, found, expected))
    return {"sizes": sizes, "same": same}


def shard(folder: Path) -> list[str | None]:
    """Failures of a small image, and of one that can be decoded but not redacted."""
    (folder / "in").mkdir()
    task = Task(
        inputs=open_store(str(folder / "in")),
        outputs=open_store(str(folder / "out")),
        redaction=Pixelate(block=4),
    )
    work = Reconstruction(task, restorer("enhancer"))

    def rows() -> list[str | None]:
        outcome = work.run(list(planned(task.inputs.list(), ".png")))
        return [
            f"{row['failure']}: {row['detail'] if row['failure'] else None}" for row in outcome.rows
        ]

    (folder / "in" / "a.png").write_bytes(encode(noise(40, 40).numpy(), "png"))
    rows()
    (folder / "in" / "b.png").write_bytes(encode(noise(3000, 3000).numpy(), "png"))
    found = limited(rows, 44 * 2**20)
    assert not isinstance(found, str)
    return found


def main() -> None:
    torch.set_num_threads(1)
    threading.stack_size(2**18)
    batches = {
        f"{name} {kind}": halved(name, getattr(torch, kind))
        for name in ("enhancer", "redacto")
        for kind in ("float32", "bfloat16")
    }
    giants = {
        name: limited(work_on(restorer(name), 1, 1500))
        for name in ("enhancer", "redacto", "redacto-baseline")
    }
    with tempfile.TemporaryDirectory() as folder:
        rows = shard(Path(folder))
    print(json.dumps({"batches": batches, "giants": giants, "rows": rows}))


if __name__ == "__main__":
    main()
