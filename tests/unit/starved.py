"""Run networks in a process that is refused memory, and print what became of it as JSON.

`python -m tests.unit.starved`; a process of its own, as the limit is the whole process's.
"""

import ctypes
import gc
import json
import resource
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from redaction_core.errors import InputError
from redaction_core.inference import Restorer
from redaction_core.redaction import Pixelate
from tests.unit.networks import holes, noise, restorer

ROOM_BYTES = 12 * 2**20
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
_LIBC = ctypes.CDLL(None)


def limited(work: Callable[[], list[Tensor]]) -> list[Tensor] | str:
    """Do work with little more memory than is used now; gives its error as text."""
    gc.collect()
    _LIBC.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM_BYTES
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
        return lambda: under_test.fill(images, hidden)
    images = list(noise(count, 1, side, side))
    return lambda: under_test.enhance(images, Pixelate(block=4))


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


def main() -> None:
    torch.set_num_threads(1)
    # Large blocks go back to the system at once, so that the room is what the limit says.
    _LIBC.mallopt(-3, 65536)
    batches = {
        f"{name} {kind}": halved(name, getattr(torch, kind))
        for name in ("enhancer", "redacto")
        for kind in ("float32", "bfloat16")
    }
    giants = {
        name: limited(work_on(restorer(name), 1, 1500))
        for name in ("enhancer", "redacto", "redacto-baseline")
    }
    print(json.dumps({"batches": batches, "giants": giants}))


if __name__ == "__main__":
    main()
