"""Pickles changed an instruction at a time, so that most of them stay pickles."""

from __future__ import annotations

import pickletools
import random
from collections.abc import Iterator

from fuzz.assembling import named, real, several, text, whole
from fuzz.seeds import WORDS

PUSHING = {
    op.code.encode("latin-1")
    for op in pickletools.opcodes
    if not op.stack_before and len(op.stack_after) == 1 and op.name != "MARK"
}
VALUES = (
    *(whole(number) for number in (0, 1, 4, -1, 255, 2**31, 2**63 - 1, 2**64, -(2**63), 10**600)),
    *(real(number) for number in (0.0, 0.5, 1e300, float("inf"), float("nan"))),
    *(
        b")",
        b"]",
        b"}",
        b"N",
        b"\x88",
        b"\x89",
        b"\x8f",
        b"h\0",
        b"h\1",
        b"h\2",
        text(""),
        text("0"),
    ),
    *(several(whole(0), whole(2**62)), several(whole(2)), b"NQ", b")Q", b"NNR", b")\x85\x85\x85"),
    *(named(name) for name in ("torch.int8", "torch.Size", "torch._utils._rebuild_parameter")),
)
"""Instructions that leave one value on the stack, of every kind there is."""

WORDS_OF_PICKLES = tuple(word.encode("latin-1") for word in WORDS["pickles"])


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Return the pickle *data* with one to four instructions changed, of at most *most* bytes."""
    rng = random.Random(seed)
    parts = list(instructions(data))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(parts) + 1)
        there = parts[at : at + 1]
        kind = rng.randrange(6)
        if kind < 3 and there and there[0][:1] in PUSHING:
            parts[at] = rng.choice(VALUES)
        elif kind == 3 and there:
            del parts[at]
        elif kind == 4 and parts:
            begin = rng.randrange(len(parts))
            parts[at:at] = parts[begin : begin + rng.choice((1, 2, 8, 32))]
        elif kind == 5:
            parts.insert(at, b"q" + bytes([rng.randrange(4)]))
        else:
            parts.insert(at, rng.choice(WORDS_OF_PICKLES))
    return b"".join(parts)[:most]


def instructions(data: bytes) -> Iterator[bytes]:
    """Yield the instructions of the pickles in *data*, and the rest as one."""
    begin = 0
    try:
        while begin < len(data):
            places = [at for _, _, at in pickletools.genops(data[begin:]) if at is not None]
            for here, there in zip(places, [*places[1:], places[-1] + 1], strict=True):
                yield data[begin + here : begin + there]
            begin += places[-1] + 1
    except (ValueError, IndexError, KeyError, OverflowError):
        yield data[begin:]
