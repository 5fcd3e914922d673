"""Pickles read as data: a stack machine that imports nothing, calls nothing and allocates little.

A call that a pickle asks for becomes a `Call`, which is never made. ``torch.load`` is not used: its
restricted reader names no tensor in its errors, lets a file of 2 kB ask for gigabytes, and can be
switched off by an environment variable.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from soupmerge.errors import short_repr

MOST_STEPS = 800_000
"""Limit of instructions per pickle: about 35 per tensor, each of at most 80 bytes of memory."""


class PickleError(ValueError):
    """The bytes are not a pickle, or not one that torch would write."""


@dataclass(eq=False, slots=True)
class Global:
    """A reference to ``module.name``, which is not looked up."""

    name: str


@dataclass(eq=False, slots=True)
class Call:
    """The result of calling *of* with *args*, with *items* and *state* set; it is not called."""

    of: Any
    args: Any
    items: dict[Any, Any] | None = None
    state: Any = None


@dataclass(eq=False, slots=True)
class Persistent:
    """A reference to something outside the pickle, such as a storage."""

    id: Any


@dataclass
class Pickled:
    """The value in a pickle, the globals it refers to, and where it ends."""

    value: Any
    globals: tuple[str, ...]
    end: int


def read(data: bytes, start: int = 0) -> Pickled:
    """Return the pickle at *start* in *data*: dicts, lists, numbers, strings, the classes above.

    Raises:
        PickleError: there is none, or it is damaged or too long.
    """
    machine = _Machine(data, start)
    try:
        value = machine.run()
    except PickleError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, struct.error, AttributeError) as error:
        raise PickleError(f"is invalid at byte {machine.at}") from error
    return Pickled(value, tuple(machine.globals), machine.at)


class _Machine:
    """Protocols 2 to 5 (PEP 307, 3154, 574); torch writes protocol 2."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[str, None] = {}

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            if code not in STEPS:
                raise PickleError(f"has an unknown instruction {code!r} at byte {self.at - 1}")
            STEPS[code](self)
        raise PickleError(f"is longer than {MOST_STEPS:,} instructions")

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise PickleError(f"ends too early, at byte {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def line(self) -> str:
        end = self.data.index(b"\n", self.at)
        text = self.take(end - self.at).decode("utf-8")
        self.take(1)
        return text

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def drop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.marks.pop()

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError(f"has a global whose name is not a string at byte {self.at}")
        full = f"{module}.{name}"
        self.globals[full] = None
        self.push(Global(full))

    def call(self, args: Any, of: Any) -> None:
        self.push(Call(of, args))

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, Call):
            target.state = state
        elif not isinstance(target, dict):
            raise PickleError(f"sets attributes of a {type(target).__name__} at byte {self.at}")

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Call):
            target.items = items = target.items or {}
        else:
            items = target
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Other keys may take forever to hash (tuples of tuples of …), and hold no weights.
            if isinstance(key, (str, int, float, bool, bytes, type(None))):
                if key in items:
                    raise PickleError(f"has the key {short_repr(key)} twice, at byte {self.at}")
                items[key] = value

    def dictionary(self) -> None:
        pairs = self.since_mark()
        self.push({})
        self.set_items(pairs)

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Call):
            raise PickleError(f"adds to a {type(target).__name__} at byte {self.at}")

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def integer(self, count: int) -> None:
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def text(self, form: str) -> None:
        self.push(self.take(self.number(form)).decode("utf-8", "surrogatepass"))

    def raw(self, form: str) -> None:
        self.push(self.take(self.number(form)))

    def latin(self, form: str) -> None:
        self.push(self.take(self.number(form)).decode("latin-1"))

    def protocol(self) -> None:
        if self.number("B") > 5:
            raise PickleError("has a protocol above 5")

    def named(self) -> None:
        self.name(self.line(), self.line())

    def named_by_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def new_with_keywords(self) -> None:
        _, args, of = self.pop(), self.pop(), self.pop()
        self.call(args, of)

    def instance(self) -> None:
        of, *args = self.since_mark()
        self.call(tuple(args), of)


Step = Callable[[_Machine], Any]

SET, FROZENSET = Global("builtins.set"), Global("builtins.frozenset")

STEPS: dict[bytes, Step] = {
    b"\x80": _Machine.protocol,
    b"\x95": lambda m: m.number("Q"),  # a frame: its length is not needed
    b"(": _Machine.mark,
    b"0": _Machine.drop,
    b"1": _Machine.since_mark,
    b"2": lambda m: m.push(m.stack[-1]),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.integer(4),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("H")),
    b"\x8a": lambda m: m.integer(m.number("B")),
    b"\x8b": lambda m: m.integer(m.number("i")),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"T": lambda m: m.latin("i"),
    b"U": lambda m: m.latin("B"),
    b"X": lambda m: m.text("I"),
    b"\x8c": lambda m: m.text("B"),
    b"\x8d": lambda m: m.text("Q"),
    b"B": lambda m: m.raw("I"),
    b"C": lambda m: m.raw("B"),
    b"\x8e": lambda m: m.raw("Q"),
    b"\x96": lambda m: m.raw("Q"),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.since_mark()),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"}": lambda m: m.push({}),
    b"d": _Machine.dictionary,
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"\x8f": lambda m: m.call((), SET),
    b"\x90": lambda m: m.append(m.since_mark()),
    b"\x91": lambda m: m.call((m.since_mark(),), FROZENSET),
    b"h": lambda m: m.push(m.memo[m.number("B")]),
    b"j": lambda m: m.push(m.memo[m.number("I")]),
    b"q": lambda m: m.remember(m.number("B")),
    b"r": lambda m: m.remember(m.number("I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"c": _Machine.named,
    b"\x93": _Machine.named_by_stack,
    b"R": lambda m: m.call(m.pop(), m.pop()),
    b"\x81": lambda m: m.call(m.pop(), m.pop()),
    b"\x92": _Machine.new_with_keywords,
    b"o": _Machine.instance,
    b"b": lambda m: m.build(m.pop()),
    b"Q": lambda m: m.push(Persistent(m.pop())),
}
"""Instruction → its effect on the machine."""
