"""What readers allow: all that is at a limit, and nothing beyond it."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, SoupmergeError, UnsafeError, UsageError
from soupmerge.storage.reading import StableFile
from soupmerge.weights import archives, headers, places, torchfiles
from soupmerge.weights.files import open_checkpoint
from soupmerge.weights.lineage import family_of


def header_of(path: Path, header: dict[str, Any], data: bytes = b"") -> StableFile:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return StableFile.seen(path)


def named(path: Path, count: int) -> StableFile:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return header_of(path, {str(i): entry for i in range(count)})


def test_a_header_names_as_many_tensors_as_the_environment_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert headers.MOST_TENSORS == 100_000
    monkeypatch.setenv("SOUPMERGE_MAX_TENSORS", "20")
    assert len(headers.read(named(tmp_path / "a.safetensors", 20))[0]) == 20
    with pytest.raises(InputError, match="its header names more than 20 tensors; set SOUPMERGE_M"):
        headers.read(named(tmp_path / "b.safetensors", 21))
    # A header that is not one of tensors is not parsed if it is as long as one of many.
    flat = header_of(tmp_path / "c.safetensors", {"a": list(range(20 * 17))})
    with pytest.raises(InputError, match="more than 20 tensors"):
        headers.read(flat)
    short = header_of(tmp_path / "d.safetensors", {"a": list(range(20 * 16))})
    with pytest.raises(InputError, match="should have dtype, shape and data_offsets"):
        headers.read(short)
    for text in ("many", "-1", "1e3"):
        monkeypatch.setenv("SOUPMERGE_MAX_TENSORS", text)
        with pytest.raises(UsageError, match=f"SOUPMERGE_MAX_TENSORS: '{text}' is not a number"):
            headers.read(named(tmp_path / "a.safetensors", 1))
    monkeypatch.setenv("SOUPMERGE_MAX_TENSORS", "")
    assert len(headers.read(named(tmp_path / "a.safetensors", 30))[0]) == 30


@pytest.mark.parametrize(("size", "allowed"), [(100_000_000, True), (100_000_001, False)])
def test_a_header_has_a_hundred_million_bytes_at_most(
    tmp_path: Path, size: int, allowed: bool
) -> None:
    path = tmp_path / "a.safetensors"
    with open(path, "wb") as file:
        file.write(size.to_bytes(8, "little") + b"{")
        file.truncate(8 + size)
    words = "is not JSON" if allowed else "100,000,001 bytes long, but at most 100,000,000"
    with pytest.raises(InputError, match=words):
        headers.read(StableFile.seen(path))


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [1] * 63 + [2]}, ""),
        ({"shape": [1] * 64 + [2]}, "its shape has 65 dimensions, at most 64 are allowed"),
        ({"more": 1}, "should have dtype, shape and data_offsets, and nothing else"),
        ({"dtype": "F8"}, "dtype 'F8' is not one of F64, F32, F16, BF16"),
        ({"dtype": ["F32"]}, r"dtype \['F32'\] is not one of"),
        ({"shape": [2.0]}, r"shape \[2.0\] is not a list of sizes"),
        ({"shape": [True, 2]}, r"shape \[True, 2\] is not a list of sizes"),
        ({"shape": [-2]}, r"shape \[-2\] is not a list of sizes"),
        ({"shape": [0, 2**63 - 1], "data_offsets": [0, 0]}, "byte 0 of the data belongs to no"),
        ({"shape": [0, 2**63]}, r"shape \[0, 9223372036854775808\] is not a list"),
        ({"data_offsets": [8, 0]}, r"data_offsets \[8, 0\] are not a start and an end"),
        ({"data_offsets": [0, 4, 8]}, r"data_offsets \[0, 4, 8\] are not"),
        ({"data_offsets": [0]}, r"data_offsets \[0\] are not"),
        ({"shape": [3]}, "has 8 bytes, its shape and dtype need 12"),
    ],
)
def test_each_entry_of_a_header_is_checked(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    file = header_of(tmp_path / "a.safetensors", {"w": {**ENTRY, **change}}, bytes(8))
    if words:
        with pytest.raises(InputError, match=words):
            headers.read(file)
    else:
        assert headers.read(file)[0]["w"].info.numel == 2


@pytest.mark.parametrize(
    ("offsets", "size", "words"),
    [
        ([(0, 8), (8, 16)], 16, None),
        ([(8, 16), (0, 8)], 16, None),
        ([(0, 8), (4, 12)], 12, "'b' overlaps 'a'"),
        ([(0, 8), (0, 8)], 8, "'b' overlaps 'a'"),
        ([(0, 8), (12, 20)], 20, "byte 8 of the data belongs to no tensor"),
        ([(1, 9), (9, 17)], 17, "byte 0 of the data belongs to no tensor"),
        ([(0, 8), (8, 16)], 15, "'b' ends at byte 16 of the data, but the file ends at 15"),
        ([(8, 16), (0, 8)], 15, "'a' ends at byte 16 of the data, but the file ends at 15"),
        ([(0, 8), (8, 16)], 19, "byte 16 of the data belongs to no tensor: 3 bytes too many"),
    ],
)
def test_tensors_lie_side_by_side(
    tmp_path: Path, offsets: list[tuple[int, int]], size: int, words: str | None
) -> None:
    entries = {n: {**ENTRY, "data_offsets": o} for n, o in zip("ab", offsets, strict=True)}
    file = header_of(tmp_path / "x.safetensors", entries, bytes(size))
    if words is None:
        starts = {name: view.start for name, view in headers.read(file)[0].items()}
        assert starts["b"] - starts["a"] == offsets[1][0] - offsets[0][0]
        return
    with pytest.raises(InputError) as caught:
        headers.read(file)
    assert caught.value.problems == (words,)


def archive_of(path: Path, size: int) -> StableFile:
    data = b"\x80\x02B" + (size - 9).to_bytes(4, "little")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data + bytes(size - 9) + b"N.")
    return StableFile.seen(path)


@pytest.mark.parametrize(("size", "allowed"), [(1 << 26, True), ((1 << 26) + 1, False)])
def test_a_pickle_has_64_mib_at_most(tmp_path: Path, size: int, allowed: bool) -> None:
    file = archive_of(tmp_path / "a.pt", size)
    if allowed:
        assert archives.open_zip(file).pickled.end == size
    else:
        with pytest.raises(UnsafeError, match="67,108,865 bytes, but at most 67,108,864 are allo"):
            archives.open_zip(file)


@pytest.mark.parametrize(("size", "allowed"), [(1 << 23, True), ((1 << 23) + 1, False)])
def test_a_directory_of_records_has_8_mib_at_most(tmp_path: Path, size: int, allowed: bool) -> None:
    file = archive_of(tmp_path / "a.pt", 30)
    data = bytearray(file.path.read_bytes())
    at = data.rfind(b"PK\x05\x06") + 12
    data[at : at + 4] = size.to_bytes(4, "little")
    file.path.write_bytes(data)
    words, kind = ("directory is broken", InputError) if allowed else ("more records", UnsafeError)
    with pytest.raises(SoupmergeError, match=words) as caught:
        archives.open_zip(StableFile.seen(file.path))
    assert type(caught.value) is kind


@pytest.mark.parametrize(("names", "allowed"), [(64, True), (65, False)])
def test_a_number_has_64_names_at_most(tmp_path: Path, names: int, allowed: bool) -> None:
    tensor = torch.ones(8)
    torch.save({f"w{i}": tensor for i in range(names)}, tmp_path / "a.pt")
    file = StableFile.seen(tmp_path / "a.pt")
    if allowed:
        assert len(torchfiles.load(file).ties[0]) == 64
    else:
        with pytest.raises(UnsafeError, match="65 tensors of 2,080 bytes in the same 32 bytes"):
            torchfiles.load(file)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("n" * 1000, True), ("n" * 1001, False), ("a..b", False), ("a\x07", False), ("", False)],
)
def test_names_are_short_and_printable(tmp_path: Path, name: str, allowed: bool) -> None:
    path = tmp_path / "a.safetensors"
    header_of(path, {name: {**ENTRY, "shape": [2]}}, bytes(8))
    if allowed:
        assert list(open_checkpoint(path)) == [name]
    else:
        with pytest.raises(InputError, match="names are empty, too long or misleading"):
            open_checkpoint(path)


def test_a_family_is_read_for_sixteen_generations(tmp_path: Path) -> None:
    family: Any = [{"ref": "first"}]
    for i in range(20):
        family = [{"ref": f"{i}", "parents": family}]
    notes = {"training": {"base": {}}, "family": family}
    sm.save(tmp_path / "a.safetensors", {"w": torch.ones(1)}, notes=notes)
    assert len(list(family_of(sm.load(tmp_path / "a.safetensors")[0]).lines())) == 1 + 16


def test_modules_and_wrappers_are_searched_to_a_depth(tmp_path: Path) -> None:
    state = {"w": torch.ones(2)}
    for depth, value in enumerate(
        (state, {"a": state}, {"a": {"b": state}}, {"a": {"b": {"c": state}}})
    ):
        torch.save(value, tmp_path / "a.pt")
        if depth < 3:
            assert list(open_checkpoint(tmp_path / "a.pt")) == ["w"]
        else:
            with pytest.raises(InputError, match="holds no state dict"):
                open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("key", ["optimizer", "optim", "scheduler", "scaler", "Sched"])
def test_tensors_of_optimisers_are_no_weights(tmp_path: Path, key: str) -> None:
    torch.save({"net": {"w": torch.ones(2)}, key: {"w": torch.zeros(2)}}, tmp_path / "a.pt")
    assert open_checkpoint(tmp_path / "a.pt")["w"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "soup.safetensors"], "model.safetensors"),
        (["soup.safetensors", "pytorch_model.bin"], "soup.safetensors"),
        (["pytorch_model.bin", "x.pt"], "pytorch_model.bin"),
        (["pytorch_model.bin.index.json", "x.pt"], "pytorch_model.bin.index.json"),
        (["model.safetensors.index.json", "soup.safetensors"], "model.safetensors.index.json"),
        (["x.th", "y.txt"], "x.th"),
    ],
)
def test_one_file_represents_a_folder(names: list[str], chosen: str) -> None:
    assert places.preferred(names, "here") == chosen


def test_pickled_protocols_beyond_the_fifth_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"w": 1}, 5))
    with pytest.raises(InputError, match="holds no state dict"):
        open_checkpoint(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(b"\x80\x06N.")
    with pytest.raises(InputError, match="is not a checkpoint"):
        open_checkpoint(tmp_path / "a.pt")
