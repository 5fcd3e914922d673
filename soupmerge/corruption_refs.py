"""References to corrupted data sets: how they are written, read and listed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from soupmerge.choices import IMAGENET_C, IMAGENET_C_EXTRA, STRENGTHS, corruption_names
from soupmerge.errors import UsageError, near_miss
from soupmerge.known_sets import KNOWN_SETS

ALL = "corruptions"
"""Stands for all kinds and strengths of ImageNet-C: ``corruptions:DATA``."""

KIND = r"([a-z]+(?:[_-][a-z]+)*)"


class CorruptionRef(NamedTuple):
    """A corruption of a data set, which is written ``kind-strength:data``.

    Attributes:
        kind: one of `choices.corruption_names`.
        strength: 1 to 5.
        data: the reference of the set that is corrupted.

    Example:
        >>> str(CorruptionRef("gaussian_noise", 3, "folder:photos"))
        'gaussian_noise-3:folder:photos'
    """

    kind: str
    strength: int
    data: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.strength}:{self.data}"

    @classmethod
    def parse(cls, ref: str) -> CorruptionRef | None:
        """Return what *ref* says if it is written ``kind-strength:data``, else None.

        Kinds may be written with dashes: ``gaussian-noise-3:data``.

        Raises:
            UsageError: there is no such kind or strength, or the data are corrupted themselves.

        Example:
            >>> CorruptionRef.parse("gaussian-noise-3:folder:photos")
            CorruptionRef(kind='gaussian_noise', strength=3, data='folder:photos')
            >>> CorruptionRef.parse("folder:photos")
        """
        match = re.fullmatch(rf"{KIND}-(\w+):(.+)", ref)
        if match is None or ref.partition(":")[0] in KNOWN_SETS:
            return None
        name, strength, data = match.groups()
        found = cls(_kind(name, corruption_names(), ref), _strength(strength, ref), data)
        if cls.of(data) is not None:
            fix = f"leave out {name}-{strength}, or the other"
            raise UsageError("images can be corrupted only once", where=ref, fix=fix)
        return found

    @classmethod
    def published(cls, ref: str) -> CorruptionRef | None:
        """Return what *ref* says if it names one set of a published collection, else None.

        Raises:
            UsageError: there is no such kind or strength.

        Example:
            >>> CorruptionRef.published("imagenet-c:fog-3:/data/in-c")
            CorruptionRef(kind='fog', strength=3, data='imagenet-c:/data/in-c')
            >>> CorruptionRef.published("imagenet-c:/data/in-c")
        """
        name, _, rest = ref.partition(":")
        match = re.fullmatch(rf"{KIND}-(\d+)(:.+)?", rest)
        if name not in KNOWN_SETS or not KNOWN_SETS[name].is_corrupted or match is None:
            return None
        kind, strength, place = match.groups("")
        kinds = (*IMAGENET_C, *IMAGENET_C_EXTRA)
        return cls(_kind(kind, kinds, ref), _strength(strength, ref), name + place)

    @classmethod
    def of(cls, ref: str) -> CorruptionRef | None:
        """Return the corruption in *ref*, be it computed or published, or None.

        Raises:
            UsageError: there is no such kind or strength.
        """
        return cls.parse(ref) or cls.published(ref)


def expanded(refs: Iterable[str]) -> tuple[str, ...]:
    """Return *refs*, with 75 references in place of each that stands for all corruptions.

    These are ``corruptions:DATA``, and published collections, such as ``imagenet-c``, without the
    name of a corruption.

    Example:
        >>> found = expanded(["digits", "corruptions:digits", "cifar10-c:/data"])
        >>> len(found), found[:2], found[-1]
        (151, ('digits', 'gaussian_noise-1:digits'), 'cifar10-c:jpeg_compression-5:/data')
    """
    return tuple(each for ref in refs for each in _expanded(ref))


def _expanded(ref: str) -> Iterable[str]:
    name, colon, rest = ref.partition(":")
    kinds = [f"{kind}-{strength}" for kind in IMAGENET_C for strength in STRENGTHS]
    if name == ALL and rest:
        return (f"{kind}:{rest}" for kind in kinds)
    if name in KNOWN_SETS and KNOWN_SETS[name].is_corrupted and not CorruptionRef.published(ref):
        return (f"{name}:{kind}{colon}{rest}" for kind in kinds)
    return (ref,)


def _kind(name: str, known: Iterable[str], ref: str) -> str:
    known, kind = tuple(known), name.replace("-", "_")
    if kind not in known:
        fix = near_miss(kind, known)
        raise UsageError(f"unknown corruption {name!r}", where=ref, fix=fix)
    return kind


def _strength(text: str, ref: str) -> int:
    if text not in map(str, STRENGTHS):
        fix = f"give {STRENGTHS[0]} to {STRENGTHS[-1]}"
        raise UsageError(f"no strength {text!r}", where=ref, fix=fix)
    return int(text)
