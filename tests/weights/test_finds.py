"""What fuzzing found: each of these once broke a law of reading (see fuzz/README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from soupmerge.errors import InputError
from soupmerge.weights.files import open_checkpoint
from tests.hostile.archives import Global, Reduce, zipped


def test_a_header_in_utf_16_is_no_header(tmp_path: Path) -> None:
    """Python's JSON reader guesses the encoding of bytes; the format knows none but UTF-8."""
    text = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.encode("utf-16-le")
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(InputError, match="not JSON"):
        open_checkpoint(path)


def test_a_tensor_of_a_class_that_lacks_its_arguments(tmp_path: Path) -> None:
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    odd = Reduce(Global("torch._tensor", "_rebuild_from_type_v2"), (rebuild,))
    path = zipped(tmp_path / "x.pt", {"w": odd})
    with pytest.raises(InputError, match="w: has a malformed description"):
        open_checkpoint(path)
