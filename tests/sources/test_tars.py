"""Tar archives of class folders: read as data, by an index that is made once; never unpacked."""

from __future__ import annotations

import gzip
import lzma
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.sources import cache
from soupmerge.sources.images import opening, stored
from soupmerge.sources.images.containers import shards, tars
from tests.sources import containers
from tests.sources.containers import CLASSES, entry, files, png, tar

BLOCK = tarfile.BLOCKSIZE


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.HOME, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tar(tmp_path / "a.tar", files().items())


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fits into memory."""
    monkeypatch.setattr(opening, "KEPT", 0)
    monkeypatch.setattr(stored, "KEPT", 0)


# ---- what is read


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("above", ["", "./", "photos/", "./photos/images/"])
def test_class_folders_are_read_from_any_tar(tmp_path: Path, format: int, above: str) -> None:
    wanted = sm.data(f"folder:{containers.folder(tmp_path / 'set')}")
    folders = [entry(f"{above}{name}", tarfile.DIRTYPE) for name in CLASSES]
    members = [*folders, *((above + path, data) for path, data in files().items())]
    images = sm.data(f"tar:{tar(tmp_path / 'b.tar', members, format)}")
    assert (images.ids, images.class_names) == (wanted.ids, CLASSES)
    assert images.sha256 == wanted.sha256
    assert torch.equal(images.pixels, wanted.pixels)


def test_a_split_is_its_folder(tmp_path: Path) -> None:
    members = [(f"set/{split}/{p}", d) for split in ("train", "val") for p, d in files().items()]
    path = tar(tmp_path / "b.tar", members)
    assert sm.data(f"tar:{path}", split="val").ids == tuple(files())
    with pytest.raises(UsageError, match="unknown split 'test'; it has train, val"):
        sm.data(f"tar:{path}")


def test_folders_are_found_through_a_single_image(tmp_path: Path) -> None:
    members = [("set/a/train/cat/0.png", png(0)), ("set/a/test/cat/1.png", png(1))]
    assert sm.data(f"tar:{tar(tmp_path / 'b.tar', members)}").ids == ("cat/1.png",)


def test_long_names_and_names_that_are_not_utf_8(tmp_path: Path) -> None:
    names = ["cat/" + "x" * 300 + ".png", b"cat/caf\xe9.png".decode("utf-8", "surrogateescape")]
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tar(tmp_path / "b.tar", [(name, png(i)) for i, name in enumerate(names)], format)
        images = sm.data(f"tar:{path}?resize=4x4")
        assert images.ids == ("cat/caf\\xe9.png", names[0])
        assert len(images.batch(torch.arange(2))[0]) == 2
        path.unlink()


def test_classes_may_be_empty_and_other_files_are_told_of(tmp_path: Path) -> None:
    more = [entry("fox", tarfile.DIRTYPE), ("cat/notes.txt", b""), ("cat/.hidden.png", b"")]
    path = tar(tmp_path / "b.tar", [*files().items(), *more, ("README", b"x")])
    with pytest.warns(UserWarning, match="b.tar: ") as told:
        images = sm.data(f"tar:{path}")
    assert [str(w.message).partition(": ")[2] for w in told] == [
        "1 entries of class folders are not images (cat/notes.txt); known are "
        ".jpg .jpeg .png .bmp .webp .tif .tiff .ppm .pgm",
        "no images of 1 of 4 classes: fox",
    ]
    assert images.class_names == (*CLASSES, "fox")


def test_images_are_read_in_any_order_by_several_threads(archive: Path, no_memory: None) -> None:
    images = sm.data(f"tar:{archive}")
    source = images.pixels.decoder.source
    order = torch.randperm(len(images)).tolist() * 20
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(source.read, order)] == [[*files().values()][i] for i in order]


# ---- the index


def test_the_index_is_kept_in_the_cache_and_nowhere_else(
    archive: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.listdir(archive.parent)
    first = sm.data(f"tar:{archive}")
    assert sorted(os.listdir(archive.parent)) == sorted([*before, "home"])
    calls: list[Any] = []
    monkeypatch.setattr(tars, "members", lambda file: calls.append(file) or shards.members(file))
    assert sm.data(f"tar:{archive}").sha256 == first.sha256
    assert not calls
    for file in (home / "shards").iterdir():
        file.write_bytes(file.read_bytes()[:-30])  # a cache that is broken is done without
    assert sm.data(f"tar:{archive}").sha256 == first.sha256
    monkeypatch.setenv(cache.HOME, "/dev/null/nowhere")  # and so is one that cannot be written
    assert sm.data(f"tar:{archive}").sha256 == first.sha256
    assert len(calls) == 2


def test_an_archive_that_has_changed_is_indexed_again(archive: Path) -> None:
    assert len(sm.data(f"tar:{archive}")) == 9
    tar(archive, [*files().items(), ("cat/90.png", png(90))])
    assert len(sm.data(f"tar:{archive}")) == 10


def test_an_index_that_no_longer_fits_is_found_out(archive: Path, no_memory: None) -> None:
    status = os.stat(archive)
    sm.data(f"tar:{archive}")
    swapped = [*files().items()]
    swapped[0], swapped[1] = (swapped[0][0], swapped[1][1]), (swapped[1][0], swapped[0][1])
    tar(archive, [*swapped[1:], swapped[0]])
    os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(archive).st_size == status.st_size
    with pytest.raises(InputError, match="a.tar: cat/0.png: is not where it was .*; touch the"):
        sm.data(f"tar:{archive}?resize=4x4").batch(torch.arange(9))


def test_an_archive_that_changes_while_it_is_read_is_told_of(
    archive: Path, no_memory: None
) -> None:
    images = sm.data(f"tar:{archive}")
    images.batch(torch.tensor([0]))
    os.truncate(archive, 3000)
    with pytest.raises(InputError, match=r"a.tar: dog/5.png: has changed since it was first read"):
        images.batch(torch.tensor([5]))
    archive.unlink()
    with pytest.raises(InputError, match=r"a.tar: emu/8.png: cannot be read: No such file"):
        images.batch(torch.tensor([8]))


# ---- hostile archives


def cut(archive: Path) -> None:
    """In the middle of an image."""
    os.truncate(archive, 3 * BLOCK + 40)


def cut_between(archive: Path) -> None:
    """After an image, where tarfile sees no harm."""
    with tarfile.open(archive) as opened:
        os.truncate(archive, opened.getmembers()[4].offset)


def overwritten(archive: Path) -> None:
    """With garbage in the place of a header, which tarfile takes for the end."""
    with tarfile.open(archive) as opened:
        place = opened.getmembers()[4].offset
    with archive.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 8 + bytes(BLOCK - 8))


def huge_header(archive: Path) -> None:
    """A header that tarfile would read into memory."""
    header = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    header.size = 1 << 40
    archive.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(2 * BLOCK))


def negative(archive: Path) -> None:
    """A member of negative size, after which comes itself."""
    header = bytearray(entry("cat/0.png", tarfile.REGTYPE).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive.write_bytes(bytes(header) + bytes(2 * BLOCK))


def many_headers(archive: Path) -> None:
    """Headers of headers, deeper than tarfile can follow."""
    header = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    archive.write_bytes(header * 5000)


def squeezed(archive: Path) -> None:
    archive.write_bytes(gzip.compress(archive.read_bytes()))


def squeezed_more(archive: Path) -> None:
    archive.write_bytes(lzma.compress(archive.read_bytes()))


def no_tar(archive: Path) -> None:
    archive.write_bytes(b"PK\3\4 and so on" * 99)


def nothing(archive: Path) -> None:
    archive.write_bytes(b"")


def pipe(archive: Path) -> None:
    archive.unlink()
    os.mkfifo(archive)


def away(archive: Path) -> None:
    archive.unlink()


DAMAGED: dict[Callable[[Path], None], str] = {
    cut: "a.tar: cat/1.png: the archive ends early, at byte 1,576: .*; download",
    cut_between: r"a.tar: dog/3.png: the archive ends early, at byte [\d,]+",
    overwritten: "a.tar: is damaged after dog/3.png: there is no header at byte",
    huge_header: "a.tar: is not a tar archive, or is damaged after its beginning: a header of 1,09",
    negative: "a.tar: is not a tar archive, or is damaged",
    many_headers: "a.tar: is not a tar archive, or is damaged",
    squeezed: "a.tar: is compressed, .* one by one; run gunzip on it first",
    squeezed_more: "a.tar: is compressed, .* one by one; run unxz on it first",
    no_tar: "a.tar: is not a tar archive, or is damaged",
    nothing: "a.tar: is not a tar archive, or is damaged after its beginning: empty file",
    pipe: "a.tar: is not a regular file",
    away: "a.tar: there is no such file",
}


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_damaged_archives_are_refused(
    archive: Path, damage: Callable[[Path], None], home: Path
) -> None:
    damage(archive)
    with pytest.raises(InputError, match=DAMAGED[damage]):
        sm.data(f"tar:{archive}")
    assert not home.exists()


def test_what_would_be_followed_or_left_out_is_all_named(tmp_path: Path) -> None:
    members = [
        *files().items(),
        entry("cat/10.png", tarfile.SYMTYPE, "../../etc/passwd"),
        entry("cat/11.png", tarfile.LNKTYPE, "cat/0.png"),
        entry("cat/12.png", tarfile.CHRTYPE),
        entry("cat/13.png", tarfile.FIFOTYPE),
        ("/cat/14.png", png(14)),
        ("../cat/15.png", png(15)),
        ("cat/../../16.png", png(16)),
        ("./cat/0.png", png(17)),
        ("cat/" + "x" * 5000, b""),
    ]
    with pytest.raises(InputError) as caught:
        sm.data(f"tar:{tar(tmp_path / 'b.tar', members)}")
    assert caught.value.problems == (
        "cat/10.png is a link to ../../etc/passwd",
        "cat/11.png is a link to cat/0.png",
        "cat/12.png is not a plain file",
        "cat/13.png is not a plain file",
        "/cat/14.png leads out of the archive",
        "../cat/15.png leads out of the archive",
        "cat/../../16.png leads out of the archive",
        "cat/0.png is in it twice",
        "cat/" + "x" * 4092 + " has a name of 5,004 characters",
    )
    assert sorted(os.listdir(tmp_path)) == ["b.tar"]


def test_an_archive_without_class_folders_is_refused(tmp_path: Path) -> None:
    for members in ([], [("0.png", png(0))], [entry("cat", tarfile.DIRTYPE)]):
        with pytest.raises(InputError, match="b.tar: holds no images in class folders"):
            sm.data(f"tar:{tar(tmp_path / 'b.tar', members)}")


def test_a_decompression_bomb_in_an_archive_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from soupmerge.sources.images import decoding

    monkeypatch.setattr(decoding, "MOST_PIXELS", 100)
    path = tar(tmp_path / "b.tar", [*files().items(), ("emu/9.png", png(9, side=11))])
    with pytest.raises(InputError, match="b.tar: emu/9.png: has 11×11 pixels, which is too many"):
        sm.data(f"tar:{path}?resize=4x4").batch(torch.arange(10))


def test_a_damaged_archive_has_the_status_of_bad_input(
    archive: Path, tmp_path: Path, soupmerge: Callable[..., Any]
) -> None:
    ref = "digits-cnn?width=2&in_channels=3&num_classes=3"
    sm.save(tmp_path / "net.safetensors", sm.model(ref).state_dict(), model=ref)
    line = ("eval", tmp_path / "net.safetensors", "--data", f"tar:{archive}", "--json")
    assert soupmerge(*line).status == 0
    cut(archive)
    ended = soupmerge(*line)
    assert ended.status == 3
    assert "a.tar: cat/1.png: the archive ends early" in ended.err
