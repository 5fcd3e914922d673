"""What fuzzing found: each of these once broke a law of reading (see fuzz/README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from soupmerge.errors import InputError
from soupmerge.weights.files import open_checkpoint


def test_a_header_in_utf_16_is_no_header(tmp_path: Path) -> None:
    """Python's JSON reader guesses the encoding of bytes; the format knows none but UTF-8."""
    text = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.encode("utf-16-le")
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(InputError, match="not JSON"):
        open_checkpoint(path)
