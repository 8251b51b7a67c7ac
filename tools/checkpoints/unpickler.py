"""The instructions of a pickle, carried out without calling anything that the pickle names.

Python's own unpickler calls what a file names: that is how a checkpoint can run commands. Here `pickletools` decodes the
instructions, and the `Unpickler` carries them out with lists, dictionaries and stand-ins. Only the few constructors of plain
data and tensors in `_MAKERS` have an effect, each written here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, Protocol

from tools.checkpoints.errors import BadCheckpoint
from tools.checkpoints.standins import Instance, Name
from tools.checkpoints.tensors import Tensor, rebuild_tensor, rebuild_tensor_with_type

MOST_INSTRUCTIONS = 1_000_000  # a detector's checkpoint has some 100,000
_LETTERS = 64  # of a text that are copied in the time of an instruction

_SCALARS = (str, int, float, bytes, bool, type(None), Name)
_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_COUNTED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Stream(Protocol):
    """Where pickles are read from."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, fewer at the end.

        Args:
            size: How many.
        """

    def readline(self) -> bytes:
        """The next line."""


class Unpickler:
    """Carries out one pickle after another from a stream.

    Args:
        stream: Where the pickles are; afterwards it is at the end of the last pickle.
        load_persistent: Makes the value of a persistent id: torch's references to storages.
    """

    names: dict[Name, None]
    """Everything that the pickles named so far, in the order of its first use."""
    looked_up: list[tuple[Any, ...]]
    """The arguments of each call of getattr."""

    def __init__(self, stream: Stream, load_persistent: Callable[[Any], Any] | None = None):
        self._stream: Any = stream
        self._load_persistent = load_persistent
        self._left = MOST_INSTRUCTIONS
        self.names = {}
        self.looked_up = []
        self._reset()

    def load(self) -> Any:
        """The value of the next pickle.

        Raises:
            BadCheckpoint: It is damaged, too large, or does something that no checkpoint does.
        """
        self._reset()
        try:
            for opcode, argument, _ in pickletools.genops(self._stream):
                self._spend(1)
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._carry_out(opcode.name, argument)
        except BadCheckpoint:
            raise
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as error:
            first, *_ = str(error).splitlines() or [type(error).__name__]
            raise BadCheckpoint(f"the pickle is damaged or cut off: {first[:120]}") from error
        raise BadCheckpoint("the pickle is cut off")

    def _reset(self) -> None:
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise BadCheckpoint(f"the pickle has more than {MOST_INSTRUCTIONS:,} instructions")

    def _carry_out(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _COUNTED:
            count = _COUNTED[name]
            if len(stack) < count:
                raise BadCheckpoint("the pickle is damaged: a tuple of values that are missing")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        else:
            raise BadCheckpoint(f"the pickle has an instruction that no checkpoint needs: {name}")

    def _since_mark(self) -> list[Any]:
        if not self._marked:
            raise BadCheckpoint("the pickle is damaged: a mark is missing")
        values, self._stack = self._stack, self._marked.pop()
        return values

    def _collect(self, make: Callable[[list[Any]], Any]) -> None:
        values = self._since_mark()
        self._stack.append(make(values))

    def _mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, Instance):
            target.items.extend(values)
        else:
            raise BadCheckpoint(f"the pickle is damaged: appends to a value of type {type(target).__name__}")

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        pairs = list(zip(values[::2], values[1::2], strict=True))
        if isinstance(target, dict):
            target.update((_key(key), value) for key, value in pairs)
        elif isinstance(target, Instance):
            target.items.extend(pairs)
        else:
            raise BadCheckpoint(f"the pickle is damaged: sets items of a value of type {type(target).__name__}")

    def _add_items(self, _: Any) -> None:
        values, target = self._since_mark(), self._stack[-1]
        if not isinstance(target, set):
            raise BadCheckpoint(f"the pickle is damaged: adds to a value of type {type(target).__name__}")
        target.update(_key(value) for value in values)

    def _append(self, _: Any) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _set_item(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _dict(self, _: Any) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._set_items(values)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise BadCheckpoint("the pickle is damaged: a name that is not text")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        found = Name(module, name)
        self.names.setdefault(found)
        self._stack.append(found)

    def _reduce(self, _: Any) -> None:
        arguments, maker = self._stack.pop(), self._stack.pop()
        self._make(maker, arguments)

    def _new_with_keywords(self, _: Any) -> None:
        self._stack.pop()  # keyword arguments: of no use for a stand-in
        self._reduce(None)

    def _instance(self, argument: str) -> None:
        arguments = tuple(self._since_mark())
        self._global(argument)
        self._make(self._stack.pop(), arguments)

    def _object(self, _: Any) -> None:
        maker, *arguments = self._since_mark()
        self._make(maker, tuple(arguments))

    def _make(self, maker: Any, arguments: Any) -> None:
        if not isinstance(maker, Name):
            raise BadCheckpoint("the pickle calls something that it made itself, which no checkpoint does")
        if not isinstance(arguments, tuple):
            raise BadCheckpoint("the pickle is damaged: arguments that are not a tuple")
        if maker.name == "getattr":
            self.looked_up.append(arguments)
        for argument in arguments:
            # Copies are counted: else a few instructions could copy one large list over and over.
            if isinstance(argument, (list, tuple, set, dict)):
                self._spend(len(argument))
            elif isinstance(argument, (str, bytes)):
                self._spend(len(argument) // _LETTERS)
        make = _MAKERS.get(str(maker))
        made = make(*arguments) if make else Instance(maker, arguments)
        self._stack.append(made)

    def _build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Instance):
            if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
                state = state[0]  # with the values of __slots__
            target.state = state
        elif not isinstance(target, (dict, Tensor)):  # what these have besides their content is of no use
            raise BadCheckpoint(f"the pickle sets the state of a value of type {type(target).__name__}")

    def _persistent(self, key: Any) -> None:
        if self._load_persistent is None:
            raise BadCheckpoint("the pickle refers to values outside of it")
        self._stack.append(self._load_persistent(key))


def _key(key: Any) -> Any:
    # Tuples in tuples could take without end to hash.
    flat = isinstance(key, tuple) and len(key) <= 64 and all(isinstance(item, _SCALARS) for item in key)
    if not flat and not isinstance(key, (*_SCALARS, Instance)):
        raise BadCheckpoint(f"the pickle has a key of type {type(key).__name__}")
    return key


def _pairs(values: Any = (), *_: Any) -> dict[Any, Any]:
    found = values.items() if isinstance(values, dict) else values
    return {_key(key): value for key, value in found}


def _encoded(text: str, encoding: str = "") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise BadCheckpoint(f"the pickle has bytes in the encoding {encoding[:40]!r}")
    return text.encode(encoding)


def _defaultdict(*_: Any) -> dict[Any, Any]:
    return {}


def _set(values: Any = ()) -> set[Any]:
    return {_key(value) for value in values}


def _no_bytes() -> bytes:
    return b""


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": _defaultdict,
    "_codecs.encode": _encoded,
    "torch.Size": lambda values=(): tuple(values),
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": rebuild_tensor_with_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
for _module in ("builtins", "__builtin__"):
    _MAKERS |= {f"{_module}.set": _set, f"{_module}.frozenset": _set, f"{_module}.dict": _pairs}
    _MAKERS[f"{_module}.bytes"] = _no_bytes  # protocol 2 has no other way to write them
    _MAKERS |= {f"{_module}.list": lambda values=(): list(values), f"{_module}.tuple": lambda values=(): tuple(values)}

_OPERATIONS: dict[str, Callable[[Unpickler, Any], None]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "MARK": Unpickler._mark,
    "POP": Unpickler._pop,
    "POP_MARK": Unpickler._pop_mark,
    "DUP": lambda machine, argument: machine._stack.append(machine._stack[-1]),
    "PUT": Unpickler._put,
    "BINPUT": Unpickler._put,
    "LONG_BINPUT": Unpickler._put,
    "MEMOIZE": Unpickler._memoize,
    "GET": Unpickler._get,
    "BINGET": Unpickler._get,
    "LONG_BINGET": Unpickler._get,
    "LIST": lambda machine, argument: machine._collect(list),
    "TUPLE": lambda machine, argument: machine._collect(tuple),
    "DICT": Unpickler._dict,
    "FROZENSET": lambda machine, argument: machine._collect(_set),
    "APPEND": Unpickler._append,
    "APPENDS": lambda machine, argument: machine._extend(machine._since_mark()),
    "SETITEM": Unpickler._set_item,
    "SETITEMS": lambda machine, argument: machine._set_items(machine._since_mark()),
    "ADDITEMS": Unpickler._add_items,
    "GLOBAL": Unpickler._global,
    "STACK_GLOBAL": Unpickler._stack_global,
    "REDUCE": Unpickler._reduce,
    "NEWOBJ": Unpickler._reduce,
    "NEWOBJ_EX": Unpickler._new_with_keywords,
    "INST": Unpickler._instance,
    "OBJ": Unpickler._object,
    "BUILD": Unpickler._build,
    "PERSID": Unpickler._persistent,
    "BINPERSID": lambda machine, argument: machine._persistent(machine._stack.pop()),
}
