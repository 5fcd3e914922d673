"""A label space: the outputs of a network by name, and the classes that data may have."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

from soupmerge.errors import InputError, enumerated
from soupmerge.label_spaces.outputs import Outputs

Names: TypeAlias = tuple[str, ...]
"""What one thing is called: the first name is shown, the others are understood as well."""


class LabelClass(NamedTuple):
    """A class that images may have.

    Attributes:
        names: its names.
        outputs: the outputs of the network that stand for it; one, except in coarser spaces.
    """

    names: Names
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class LabelSpace:
    """What the outputs of a network stand for, by name, and the classes that data may have.

    Class folders are found by any of their class's names, whatever the case, with spaces or
    underscores; where no class has such a name, by the number of the class, from 0.

    Attributes:
        ref: its name, or that of its file; empty if it is what networks record.
        outputs: the names of each of the N outputs, in their order.
        classes: the classes that data may have.
        whole: whether data always have all *classes*, as the known subsets of ImageNet do. If not,
            they have those that they have folders for.
        right_by_image: name of an image → its right classes, if labels are given image by image,
            and folders say nothing.

    Example:
        >>> pets = LabelSpace.of("pets", [("cat", "Felis catus"), ("dog",), ("emu",)])
        >>> pets.places(["Dog", "felis_catus", "2"], where="folder:photos")
        [1, 0, 2]
    """

    ref: str
    outputs: tuple[Names, ...]
    classes: tuple[LabelClass, ...]
    whole: bool = False
    right_by_image: Mapping[str, Sequence[int]] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, ref: str, outputs: Sequence[Sequence[str]]) -> LabelSpace:
        """Return the space in which each of *outputs*, given by its names, is a class."""
        named = tuple(map(tuple, outputs))
        return cls(ref, named, tuple(LabelClass(names, (i,)) for i, names in enumerate(named)))

    def places(self, names: Sequence[str], *, where: str) -> list[int]:
        """Return the index among `classes` of each of *names*.

        Args:
            names: names of classes, such as those of folders.
            where: what has these classes, for messages.

        Raises:
            InputError: a name is of no class or of several, or two are of the same; all such names
                are listed.
        """
        if problems := self._problems(names):
            what = f"its classes ({enumerated(names)}) are not those of {self}"
            fix = (
                "rename its class folders, or name the outputs with --classes FILE: one line for "
                "each output, in order, with names separated by tabs"
            )
            raise InputError(what, problems=problems, where=where, fix=fix)
        return [self._found(name)[0] for name in names]

    def knows(self, names: Sequence[str]) -> bool:
        """Return whether `places` finds a class for each of *names*."""
        return not self._problems(names)

    def restricted(self, places: Sequence[int]) -> Outputs | None:
        """Return how logits become those of the classes at *places*; None if they are so already.

        Args:
            places: indices among `classes`.
        """
        groups = tuple(self.classes[place].outputs for place in places)
        names = tuple(names[0] for names in self.outputs)
        outputs = Outputs(groups, len(self.outputs), names, self.ref)
        return None if outputs.is_identity else outputs

    def named_alike(self) -> dict[str, list[int]]:
        """Return each name that several classes have → their indices among `classes`."""
        return {name: places for name, places in self._by_name.items() if len(places) > 1}

    def __str__(self) -> str:
        some = enumerated([entry.names[0] for entry in self.classes])
        return f"{self.ref or 'the networks'} ({some})"

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        """Name, as it is compared → the classes that have it."""
        return self._places_by(_folded)

    @cached_property
    def _as_written(self) -> dict[str, list[int]]:
        return self._places_by(str)

    def _places_by(self, form: Callable[[str], str]) -> dict[str, list[int]]:
        found = defaultdict(list)
        for place, entry in enumerate(self.classes):
            for name in dict.fromkeys(map(form, entry.names)):
                found[name].append(place)
        return dict(found)

    def _found(self, name: str) -> list[int]:
        """Return the classes called *name*, or else the one of that number."""
        if places := self._as_written.get(name) or self._by_name.get(_folded(name)):
            return places
        numbered = name.isascii() and name.isdecimal() and len(name) < 10 and not self._has_numbers
        return [int(name)] if numbered and int(name) < len(self.classes) else []

    @cached_property
    def _has_numbers(self) -> bool:
        """Whether some class is called by a number, so that a number is no place."""
        return any(name.isdecimal() for name in self._by_name)

    def _problems(self, names: Sequence[str]) -> list[str]:
        """Return why *names* do not have a class each."""
        found = {name: self._found(name) for name in names}
        problems = [self._problem(n, places) for n, places in found.items() if len(places) != 1]
        return [*problems, *self._shared(names, found)]

    def _problem(self, name: str, places: Sequence[int]) -> str:
        if places:
            return f"{name!r} may be {' or '.join(map(self._shown, places))}"
        close = difflib.get_close_matches(_folded(name), self._by_name, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{name!r} is not one of them{hint}"

    def _shared(self, names: Sequence[str], found: Mapping[str, list[int]]) -> Iterator[str]:
        """Yield a message for each class that several of *names* are of."""
        owners = defaultdict(list)
        for name in names:
            if len(found[name]) == 1:
                owners[found[name][0]].append(repr(name))
        for place, several in owners.items():
            if len(several) > 1:
                yield f"{' and '.join(several)} are both {self._shown(place)}"

    def _shown(self, place: int) -> str:
        """Return the class at *place* in words: its first names, and its only output."""
        names, outputs = self.classes[place]
        return ", ".join(names[:2]) + (f" (output {outputs[0]})" if len(outputs) == 1 else "")


def _folded(name: str) -> str:
    """Return *name* as it is compared: case does not count, nor how words are separated."""
    return name.casefold().replace("_", " ").strip()
