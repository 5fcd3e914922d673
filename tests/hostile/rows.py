"""A row of the table: a file or folder to make, what is typed, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

READ = ("inspect {x}",)
MIXED = ("mix {good} {x} -w uniform -o {out}",)
BOTH = (*READ, *MIXED, "mix {x} {good} -w uniform -o {old} --force")
"""What a bad file is put through: looked at, mixed second, and mixed first over an old soup."""

PLAIN = r"(; |\n)\w"
"""Where a message says what to do."""

CLICK = r"(; |\n)\w|[Dd]id you mean|not in the range|is not one of|Missing|is not a valid"
"""The same, in the words of click."""


@dataclass(frozen=True)
class Row:
    """One case of the catalogue.

    Attributes:
        id: begins with the number of its row there.
        make: makes it in a folder; what it returns is typed for ``{x}``.
        status: the exit status that every one of *lines* must have.
        words: each stands in what is said, digits with or without commas.
        lines: what is typed, in order.
        fix: matches what is to be done about it; only looked for if the status is not 0.
        env: variables of the environment.
        lean: typed in a process of its own, whose memory is bounded.
        nobody: typed by someone without rights.
        check: looks at the folder afterwards.
        makes: names of files that the command may leave.
    """

    id: str
    make: Callable[[Path], Any]
    status: int
    words: tuple[str, ...] = ()
    lines: tuple[str, ...] = BOTH
    fix: str = PLAIN
    env: Mapping[str, str] = field(default_factory=dict)
    lean: bool = False
    nobody: bool = False
    check: Callable[[Path], None] | None = None
    makes: tuple[str, ...] = ()


class Table(list[Row]):
    """Rows that are added by a decorator on what makes them."""

    def row(
        self, id: str, status: int, *words: str, **more: Any
    ) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
        """Add a row, and leave its maker as it is, for others to build upon."""

        def add(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
            self.append(Row(id, make, status, words, **more))
            return make

        return add


def state(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Return the weights that every good file here has."""
    draw = np.random.default_rng(seed)
    return {
        "conv.bias": draw.standard_normal(2).astype("f4"),
        "conv.weight": draw.standard_normal((2, 3)).astype("f4"),
    }


def save(path: Path, *, seed: int = 0, **tensors: Any) -> Path:
    """Write *tensors* to *path*, or good weights if there are none; ``__`` stands for a dot."""
    named = {name.replace("__", "."): np.asarray(t) for name, t in tensors.items()}
    safetensors.numpy.save_file(named or state(seed), path)
    return path
