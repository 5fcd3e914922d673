"""What a file is, by its first bytes: names lie, and so do extensions."""

from __future__ import annotations

from pathlib import Path

from soupmerge.errors import InputError
from soupmerge.storage.reading import require_regular

SAFETENSORS, ZIP, PICKLE = "safetensors", "zip", "pickle"


def kind_of(file: Path) -> str:
    """Return `SAFETENSORS`, `ZIP` or `PICKLE`.

    Raises:
        InputError: it is none of them; what it seems to be is said.
    """
    require_regular(file)
    try:
        size = file.stat().st_size
        with open(file, "rb") as handle:
            head = handle.read(64)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=file) from error
    # First: the length in front of a safetensors header may begin with the bytes of other formats.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return SAFETENSORS
    if head.startswith(b"PK\x03\x04"):
        return ZIP
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    fix = "name a safetensors or torch file"
    raise InputError(f"is not a checkpoint: {_guess(head)}", where=file, fix=fix)


def _guess(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, whose data were not fetched (run git lfs pull)"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, perhaps a failed download"
    if head[8:9] == b"{":
        return "a safetensors header longer than the file, perhaps a broken download"
    return f"it begins with {head[:8]!r}"
