"""File formats, recognised by their first bytes: file names may be wrong."""

from __future__ import annotations

from soupmerge.errors import InputError
from soupmerge.storage.reading import StableFile

SAFETENSORS, ZIP, PICKLE = "safetensors", "zip", "pickle"

TORCH_NAMES = (".pt", ".pth", ".tar", ".th", ".ckpt", ".bin", ".pkl", ".pickle")
"""Suffixes of torch files; a file with any other suffix is not read as a pickle."""


def kind_of(file: StableFile) -> str:
    """Return `SAFETENSORS`, `ZIP` or `PICKLE`.

    Raises:
        InputError: it is none of them (the error says what it seems to be), or it is a torch file
            with the suffix of another format.
    """
    head = file.read(0, 64)
    # Checked first, as the length of a safetensors header may look like another format's magic.
    if seems(head) == SAFETENSORS and int.from_bytes(head[:8], "little") <= file.size - 8:
        return SAFETENSORS
    kind = _torch_kind(head)
    if not kind:
        fix = "give a safetensors or torch file"
        raise InputError(f"is not a checkpoint: {_guess(file, head)}", where=file.path, fix=fix)
    if file.path.suffix.lower() not in TORCH_NAMES:
        content = "a zip archive" if kind == ZIP else "a pickle"
        what = f"is {content}, but has the suffix {file.path.suffix!r}"
        raise InputError(what, where=file.path, fix="rename it to .pt if it is a torch file")
    return kind


def seems(head: bytes) -> str:
    """Return the format of a file that begins with *head*; empty if it is not one of weights."""
    return SAFETENSORS if head[8:9] == b"{" else _torch_kind(head)


def _torch_kind(head: bytes) -> str:
    if head.startswith(b"PK\x03\x04"):
        return ZIP
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return PICKLE if pickled else ""


def _guess(file: StableFile, head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer whose data were not fetched (run git lfs pull)"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, perhaps from a failed download"
    if head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        return (
            f"its safetensors header should be {length:,} bytes long, but the file has "
            f"{file.size:,}, perhaps from an incomplete download"
        )
    if head.lstrip()[:1] in (b"{", b"["):
        return "it is JSON text, perhaps the error message of a failed download"
    return f"it begins with {head[:8]!r}"
