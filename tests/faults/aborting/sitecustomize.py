# ruff: noqa: INP001 - on PYTHONPATH, not in a package
"""A decoder that aborts its process, in every Python process that has this folder on PYTHONPATH.

Pictures that crash a decoder are found and mended; this stands for the next one. A PNG file with a
text chunk `aborts-decoder` is an ordinary picture to everyone else; here, decoding its pixels ends
the process as a failed assertion in C does. Where the chunk says "TIMES FILE", it does so until the
file has as many bytes. Nothing of the code under test is replaced: not until Pillow's decoding is
called does anything differ.
"""

import importlib.abc
import importlib.util
import os
import resource
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Arming(importlib.abc.MetaPathFinder):
    """Waits for Pillow to be imported, so that processes that never decode do not pay for it."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "PIL.ImageFile":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_arm(module: ModuleType) -> None:
                execute(module)
                _arm(module)

            spec.loader.exec_module = execute_and_arm  # type: ignore[method-assign]  # one module
        return spec


def _arm(image_file: ModuleType) -> None:
    load = image_file.ImageFile.load

    def load_or_abort(image: object) -> object:
        told = getattr(image, "info", {}).get("aborts-decoder")
        if told is not None and _aborts(told):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.abort()
        return load(image)

    image_file.ImageFile.load = load_or_abort


def _aborts(told: str) -> bool:
    times, _, file = told.partition(" ")
    if not times.isdigit():
        return True
    with open(file, "a") as counter:  # noqa: PTH123 - imported in every process: the less, the better
        if counter.tell() >= int(times):
            return False
        counter.write(".")
    return True


sys.meta_path.insert(0, _Arming())
