"""Pickles of strangers, read as data: dicts, lists, text, numbers and NumPy arrays of bytes.

A small machine follows the operations of the format (PEP 307, PEP 3154) and knows no other: what
would import, call or build something is noted down, and never done.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from redaction_core.errors import Failure, InputError

_MOST_OPERATIONS: Final = 1_000_000
_LONGEST_NAME: Final = 200

ENCODING: Final = "_codecs encode"
"""What Python 3 calls for bytes in pickles that Python 2 can read: text and "latin1"."""

_Stack: TypeAlias = list[Any]


@dataclass(eq=False)
class Noted:
    """What the pickle would have called, with what, and the state it would have set."""

    name: str
    """Module and name, by a space."""
    arguments: tuple[Any, ...] | None = None
    state: Any = None


def read(data: bytes) -> Any:  # noqa: ANN401 - whatever it holds
    """Read a pickle: str of Python 2 comes as bytes, long bytes for Python 2 as `ENCODING` noted.

    Takes no more memory than some ten times the pickle.

    Raises:
        InputError: UNREADABLE: damaged, or with operations that data do not need.
    """
    machine = _Machine()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MOST_OPERATIONS:
                raise InputError(Failure.UNREADABLE, "a pickle of too many operations")
            machine.do(operation.name, argument)
        return machine.pop()
    except (ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise InputError(Failure.UNREADABLE, "a pickle that is damaged, or not of data") from error


class _Machine:
    def __init__(self) -> None:
        self._stack: _Stack = []
        self._below: list[_Stack] = []  # the stacks that marks have put aside
        self._memo: dict[int, Any] = {}
        self._acts: dict[str, Callable[[Any], None]] = {
            "MARK": self._mark,
            "DICT": lambda _: self._push(_pairs(self._marked())),
            "LIST": lambda _: self._push(self._marked()),
            "TUPLE": lambda _: self._push(tuple(self._marked())),
            "MEMOIZE": lambda _: self._put(len(self._memo)),
            "GLOBAL": lambda name: self._push(Noted(name)),
            "STACK_GLOBAL": self._stack_global,
            "REDUCE": self._reduce,
            "BUILD": self._build,
            "APPEND": lambda _: self._extend([self.pop()]),
            "APPENDS": lambda _: self._extend(self._marked()),
            "SETITEM": self._set_item,
            "SETITEMS": lambda _: self._update(_pairs(self._marked())),
        }

    def do(self, name: str, argument: Any) -> None:  # noqa: ANN401
        if name in _NOTHING:
            return
        if name in _CONSTANTS:
            self._push(_CONSTANTS[name]())
        elif name in _LITERALS:
            self._push(argument)
        elif name in _BYTE_STRINGS:
            self._push(argument.encode("latin-1"))
        elif name in _PUTS:
            self._put(argument)
        elif name in _GETS:
            self._push(self._memo[argument])
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self._push(tuple(reversed(items)))
        else:
            self._acts[name](argument)

    def pop(self) -> Any:  # noqa: ANN401
        return self._stack.pop()

    def _push(self, value: Any) -> None:  # noqa: ANN401
        self._stack.append(value)

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _mark(self, _: object) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _marked(self) -> _Stack:
        found, self._stack = self._stack, self._below.pop()
        return found

    def _stack_global(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        if len(module) + len(name) > _LONGEST_NAME:  # the same text can be used again and again
            raise ValueError
        self._push(Noted(f"{module:s} {name:s}"))

    def _reduce(self, _: object) -> None:
        arguments, called = self.pop(), self.pop()
        if not isinstance(called, Noted) or not isinstance(arguments, tuple):
            raise TypeError
        if called.name == ENCODING and _is_short(arguments[0]):  # the key of a dict
            self._push(arguments[0].encode("latin-1"))
        else:
            self._push(Noted(called.name, arguments))

    def _build(self, _: object) -> None:
        state, built = self.pop(), self._stack[-1]
        if not isinstance(built, Noted):
            raise TypeError
        built.state = state

    def _extend(self, values: _Stack) -> None:
        if not isinstance(self._stack[-1], list):
            raise TypeError
        self._stack[-1].extend(values)

    def _set_item(self, _: object) -> None:
        value, key = self.pop(), self.pop()
        self._update(_pairs([key, value]))

    def _update(self, values: dict[Any, Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise TypeError
        self._stack[-1].update(values)


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


def _pairs(values: _Stack) -> dict[Any, Any]:
    keys = values[::2]
    # Hashing a tuple in a tuple in a tuple ... ends the process.
    if not all(isinstance(key, (str, bytes, int)) for key in keys):
        raise TypeError
    return dict(zip(keys, values[1::2], strict=True))


_NOTHING: Final = {"PROTO", "FRAME", "STOP"}
_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS: Final = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_BYTE_STRINGS: Final = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_PUTS: Final = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS: Final = {"GET", "BINGET", "LONG_BINGET"}
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
