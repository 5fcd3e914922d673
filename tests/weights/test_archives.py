"""Archives that torch did not write, or that were damaged, are refused with what is wrong."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, SoupmergeError, UnsafeError
from soupmerge.storage.reading import StableFile
from soupmerge.weights import archives
from soupmerge.weights.files import open_checkpoint
from soupmerge.weights.kinds import PICKLE, SAFETENSORS, ZIP, kind_of, seems
from soupmerge.weights.rebuilding import key_and_size

STATE = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.int16)}


def rewritten(
    path: Path, change: Callable[[dict[str, bytes]], object], packed: int = zipfile.ZIP_STORED
) -> None:
    """Write the archive at *path* anew, with its records changed."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


def renamed(old: str, new: str) -> Callable[[dict[str, bytes]], object]:
    def change(records: dict[str, bytes]) -> None:
        for name in [n for n in records if old in n]:
            records[name.replace(old, new)] = records.pop(name)

    return change


def flip(path: Path, of: bytes, by: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(of) + by] ^= 1
    path.write_bytes(data)


CASES: dict[str, tuple[Callable[[Path], object], type[SoupmergeError], str]] = {
    "without a pickle": (
        lambda path: rewritten(path, renamed("data.pkl", "data.txt")),
        *(InputError, "is a zip archive, but not one written by torch; give a file"),
    ),
    "big-endian": (
        lambda path: rewritten(path, lambda r: r.update({"a/byteorder": b"big"})),
        *(InputError, "was written on a big-endian machine"),
    ),
    "a program": (
        lambda path: rewritten(path, lambda r: r.update({"a/constants.pkl": b"N."})),
        *(UnsafeError, "is a TorchScript program, which is code"),
    ),
    "code": (
        lambda path: rewritten(path, lambda r: r.update({"a/code/x.py": b""})),
        *(UnsafeError, "is a TorchScript program, which is code"),
    ),
    "a record outside": (
        lambda path: rewritten(path, lambda r: r.update({"a/../x": b""})),
        *(UnsafeError, "unpacked outside their folder: record 'a/../x'"),
    ),
    "a record of a drive": (
        lambda path: rewritten(path, lambda r: r.update({"C:/x": b""})),
        *(UnsafeError, "unpacked outside their folder: record 'C:/x'"),
    ),
    "compressed": (
        lambda path: rewritten(path, lambda r: None, zipfile.ZIP_DEFLATED),
        *(UnsafeError, "is compressed, which files from torch never are"),
    ),
    "a storage missing": (
        lambda path: rewritten(path, lambda r: r.pop("a/data/1")),
        *(InputError, "b: storage '1' is missing"),
    ),
    "a storage cut": (
        lambda path: rewritten(path, lambda r: r.update({"a/data/0": b"123"})),
        *(InputError, "a: record 'a/data/0' should have 16 bytes, but has 3"),
    ),
    "a storage flipped": (
        lambda path: flip(path, STATE["a"].numpy().tobytes()),
        *(InputError, "do not match their checksums: record 'a/data/0'"),
    ),
    "its pickle flipped": (
        lambda path: flip(path, b"torch._utils"),
        *(InputError, "do not match their checksums: record 'a/data.pkl'"),
    ),
    "its end cut": (
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        *(InputError, "its directory is missing, so it was cut short"),
    ),
    "its start cut": (
        lambda path: path.write_bytes(b"PK\x03\x04" + path.read_bytes()[200:]),
        *(InputError, "is a damaged torch file|cannot be read"),
    ),
}


@pytest.mark.parametrize(("spoil", "kind", "words"), CASES.values(), ids=CASES)
def test_a_damaged_archive_says_what_is_wrong(
    tmp_path: Path, spoil: Callable[[Path], object], kind: type[SoupmergeError], words: str
) -> None:
    torch.save(STATE, tmp_path / "a.pt")
    spoil(tmp_path / "a.pt")
    with pytest.raises(SoupmergeError, match=words) as caught:
        open_checkpoint(tmp_path / "a.pt")
    assert type(caught.value) is kind


def test_a_record_that_appears_twice_is_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(InputError, match="record 'a/data/0' appears twice"):
        open_checkpoint(tmp_path / "a.pt")


def test_an_archive_rewritten_by_zip_reads_alike(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pt")
    rewritten(tmp_path / "a.pt", lambda r: r.pop("a/byteorder", None))
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    assert all(torch.equal(checkpoint[name], STATE[name]) for name in STATE)


def test_all_storages_that_differ_are_listed(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pt")
    for tensor in STATE.values():
        flip(tmp_path / "a.pt", tensor.numpy().tobytes())
    with pytest.raises(InputError) as caught:
        open_checkpoint(tmp_path / "a.pt")
    assert caught.value.problems == ("record 'a/data/0'", "record 'a/data/1'")


@pytest.mark.parametrize("lost", [1, 12, 20])
def test_a_legacy_file_ends_with_its_last_storage(tmp_path: Path, lost: int) -> None:
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[:-lost])
    with pytest.raises(InputError, match="storage '[0-9]+' does not end within the file"):
        open_checkpoint(tmp_path / "a.pt")


def test_the_keys_of_a_legacy_file_have_the_sizes_of_their_numbers(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    archive = archives.open_legacy(StableFile.seen(tmp_path / "a.pt"), key_and_size)
    assert sorted(storage.size for storage in archive.storages.values()) == [4, 16]
    for odd in (None, (), ("storage", None, "0", "cpu", 1), 3):
        assert key_and_size(odd) == ("", 0)


def test_keys_are_texts_or_numbers() -> None:
    assert (archives.key_of("a"), archives.key_of(3)) == ("a", "3")
    with pytest.raises(ValueError, match=r"storage \[1\] has no name"):
        archives.key_of([1])


# ---- kinds of files


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.pt", b"PK\x03\x04more", ZIP),
        ("a.bin", b"\x80\x02more", PICKLE),
        ("a.PTH", b"\x80\x05more", PICKLE),
        ("a.any", (2).to_bytes(8, "little") + b"{}", SAFETENSORS),
        ("a.pt", b"\x80\x02\0\0\0\0\0\0{" + bytes(0x280), SAFETENSORS),
        ("a.pt", b"\x80\x02\0\0\0\0\0\0{" + bytes(0x27F), SAFETENSORS),
        ("a.pt", b"\x80\x02\0\0\0\0\0\0{" + bytes(0x27E), PICKLE),
        ("a.zip", b"PK\x03\x04more", "is a zip archive, but has the suffix '.zip'; rename it"),
        ("a", b"\x80\x04more", "is a pickle, but has the suffix ''"),
        ("a.pt", b"\x80\x06more", "is not a checkpoint: it begins with"),
        ("a.pt", b"\x80\x01more", "is not a checkpoint: it begins with"),
        ("a.pt", b"", "the file is empty"),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        ("a.pt", b"\n <html>", "it is a web page"),
        ("a.pt", (9).to_bytes(8, "little") + b"{", "9 bytes long, but the file has 9, perhaps"),
    ],
)
def test_a_kind_is_known_by_the_first_bytes(
    tmp_path: Path, name: str, data: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(data)
    file = StableFile.seen(tmp_path / name)
    if kind in (ZIP, PICKLE, SAFETENSORS):
        assert kind_of(file) == kind
    else:
        with pytest.raises(InputError, match=kind):
            kind_of(file)


def test_what_may_hold_weights_is_seen_from_its_beginning() -> None:
    heads = {b"12345678{": SAFETENSORS, b"PK\x03\x04": ZIP, b"\x80\x02": PICKLE, b"<html>": ""}
    assert {head: seems(head) for head in heads} == heads


def test_shards_whose_notes_differ_are_not_one_soup(tmp_path: Path) -> None:
    for name in "ab":
        home = tmp_path / name
        home.mkdir()
        state = {"v": torch.ones(8), "w": torch.ones(8)}
        sm.save(home / "one.safetensors", state, notes={"from": name})
    folder = tmp_path / "c"
    shutil.copytree(tmp_path / "a", folder)
    notes = {name: f"{name}.safetensors" for name in "vw"}
    for tensor, shard in notes.items():
        sm.save(folder / shard, {tensor: torch.ones(1)}, notes={"from": tensor})
    index = folder / "model.safetensors.index.json"
    index.write_text(f'{{"weight_map": {str(notes).replace(chr(39), chr(34))}}}')
    with pytest.raises(InputError, match="consists of shards whose notes differ"):
        open_checkpoint(index)
