"""What is no file of weights, and folders that lead elsewhere: rows A14 to A22 and A54."""

from __future__ import annotations

import json
import os
import socket
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.numpy

from tests.hostile.headers import put
from tests.hostile.rows import BOTH, READ, Row, Table, save

TABLE = Table()
INDEX = "model.safetensors.index.json"


def add(id: str, make: object, status: int, *words: str, lines: tuple[str, ...] = BOTH) -> None:
    assert callable(make)
    TABLE.append(Row(id, make, status, words, lines))


# ---- A14, A16: another kind of file

for suffix in (".safetensors", ".pt", ".bin"):
    add(f"A14 an empty {suffix}", partial(put, content=b"", name=f"x{suffix}"), 3, "empty")
PAGE = b"<!DOCTYPE html><html>404</html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
for suffix in (".safetensors", ".pt"):
    add(f"A16 a web page named {suffix}", partial(put, content=PAGE, name=f"x{suffix}"), 3, "web")
    add(f"A16 a pointer named {suffix}", partial(put, content=POINTER, name=f"x{suffix}"), 3, "LFS")
add("A16 a picture", partial(put, content=b"\x89PNG\r\n\x1a\n" + bytes(90)), 3, "PNG")
add("A16 random bytes", partial(put, content=bytes(range(255, 0, -1))), 3, "is not a checkpoint")


@TABLE.row("A16 a torch file named .safetensors", 3, "zip", ".pt")
def zip_in_disguise(home: Path) -> Path:
    import torch

    torch.save({"w": torch.ones(2)}, home / "x.safetensors")
    return home / "x.safetensors"


@TABLE.row("A16 a pickle named .safetensors", 3, "pickle", ".pt")
def pickle_in_disguise(home: Path) -> Path:
    import torch

    torch.save({"w": torch.ones(2)}, home / "x.bin", _use_new_zipfile_serialization=False)
    return (home / "x.bin").rename(home / "x.safetensors")


@TABLE.row("A16 a safetensors file named .pt", 0)
def plain_in_disguise(home: Path) -> Path:
    return save(home / "x.pt")


@TABLE.row("A16 a document named .pt", 3, "torch")
def document(home: Path) -> Path:
    with zipfile.ZipFile(home / "x.pt", "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    return home / "x.pt"


# ---- A17, A18: no file at all


@TABLE.row("A17 a folder of two", 3, "a.safetensors", "b.safetensors", "did you mean")
def two_inside(home: Path) -> Path:
    (home / "x.safetensors").mkdir()
    for name in "ab":
        save(home / "x.safetensors" / f"{name}.safetensors")
    return home / "x.safetensors"


@TABLE.row("A17 a folder with one further down", 3, "checkpoints/last.pt", "did you mean")
def one_below(home: Path) -> Path:
    (home / "x" / "checkpoints").mkdir(parents=True)
    save(home / "x" / "checkpoints" / "last.pt")
    return home / "x"


@TABLE.row("A17 an empty folder", 3, "none")
def nothing_inside(home: Path) -> Path:
    (home / "x").mkdir()
    return home / "x"


@TABLE.row("A17 a folder of one", 0)
def one_inside(home: Path) -> Path:
    (home / "x").mkdir()
    save(home / "x" / "weights.safetensors")
    return home / "x"


def pipe(home: Path) -> Path:
    os.mkfifo(home / "x.safetensors")
    return home / "x.safetensors"


def plug(home: Path) -> Path:
    before = os.getcwd()
    os.chdir(home)  # a socket's path may have 108 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("x.pt")
    finally:
        os.chdir(before)
    return home / "x.pt"


def device(home: Path) -> Path:
    (home / "x.safetensors").symlink_to("/dev/zero")
    return home / "x.safetensors"


def linked_pipe(home: Path) -> Path:
    (home / "x.pt").symlink_to(pipe(home))
    return home / "x.pt"


def loop(home: Path) -> Path:
    (home / "x.pt").symlink_to("x.pt")
    return home / "x.pt"


for make in (pipe, plug, device, linked_pipe):
    add(f"A18 {make.__name__}", make, 3, "not a regular file")
add("A18 a link to itself", loop, 3)
add("A18 /dev/zero by its name", lambda home: "/dev/zero", 3, "/dev/zero", "not a regular file")


@TABLE.row("A18 a pipe for an index", 3, "not a regular file")
def piped_index(home: Path) -> Path:
    (home / "x").mkdir()
    os.mkfifo(home / "x" / INDEX)
    return home / "x" / INDEX


@TABLE.row("A18 a pipe for a shard", 3, "part")
def piped_shard(home: Path) -> Path:
    folder = index(home, {"conv.bias": "part.safetensors"})
    os.mkfifo(folder / "part.safetensors")
    return folder


@TABLE.row("A18 a pipe for a recipe", 3, lines=("mix --recipe {x} -o {out}",))
def piped_recipe(home: Path) -> Path:
    os.mkfifo(home / "x.json")
    return home / "x.json"


# ---- A20 to A22: an index and its shards


def index(home: Path, weight_map: object, name: str = INDEX) -> Path:
    (home / "x").mkdir()
    (home / "x" / name).write_text(json.dumps({"weight_map": weight_map}))
    return home / "x"


ASTRAY = (
    "../secret.safetensors",
    "..\\secret.safetensors",
    "a/../../secret.safetensors",
    "deeper/secret.safetensors",
    "./secret.safetensors",
    "/secret.safetensors",
    "//server/share/secret.safetensors",
    "\\\\server\\share\\secret.safetensors",
    "\\\\?\\C:\\secret.safetensors",
    "C:\\secret.safetensors",
    "C:secret.safetensors",
    "part.safetensors:secret.safetensors",
    "~/secret.safetensors",
    "file:///secret.safetensors",
    "secret\0.safetensors",
    "secret\n.safetensors",
    ".secret.safetensors",
    "-secret.safetensors",
    "..",
    ".",
    "",
)


def astray(shard: str, home: Path) -> Path:
    save(home / "secret.safetensors")
    return index(home, {"conv.bias": shard})


for shard in ASTRAY:
    add(f"A20 an index names '{shard}'", partial(astray, shard), 4, "conv.bias", "x/" + INDEX)


SAID = "a link out of its folder"
IN_ONE = dict.fromkeys(("conv.bias", "conv.weight"), "part.safetensors")


def linked(target: str, link: str, home: Path) -> Path:
    """Make a folder x with *link*, a link to *target*, which is good weights; maybe an index."""
    (home / target).parent.mkdir(parents=True, exist_ok=True)
    save(home / target)
    folder = index(home, IN_ONE) if "part" in link else home / "x"
    (home / link).parent.mkdir(parents=True, exist_ok=True)
    (home / link).symlink_to(home / target)
    return folder


def silent(target: str, link: str, home: Path) -> Path:
    linked(target, link, home)
    return (home / link).parent


INSPECTED = ("inspect {x}", "mix {x} {good} -w uniform -o {out}")
for link in ("x/weights.safetensors", "x/model.safetensors", "x/part.safetensors"):
    make = partial(linked, "elsewhere/other.safetensors", link)
    words = (SAID, "elsewhere/other.safetensors", link[2:])
    add(f"A20 {link} leads out of its folder", make, 0, *words, lines=INSPECTED)
for target, link in (
    ("repo/blobs/4d7a", "repo/snapshots/1f3/model.safetensors"),
    ("repo/blobs/4d7a", "repo/snapshots/1f3/deeper/model.safetensors"),
    ("x/real/weights", "x/model.safetensors"),
):
    TABLE.append(
        Row(
            f"A20 {link} leads to {target}, which needs no word",
            partial(silent, target, link),
            0,
            ("none out of their folder",),
            READ,
        )
    )


@TABLE.row("A20 a link that is named itself needs no word", 0, "none out of", lines=READ)
def named_link(home: Path) -> Path:
    linked("elsewhere/other.safetensors", "x/model.safetensors", home)
    return home / "x" / "model.safetensors"


@TABLE.row("A21 an index of safetensors that names a .bin", 4, "conv.bias", "pytorch_model.bin")
def torch_shard(home: Path) -> Path:
    return index(home, {"conv.bias": "pytorch_model.bin"})


def sharded(home: Path, weight_map: dict[str, str], **shards: tuple[str, ...]) -> Path:
    """Write an index, and shards ``model-0000N-of-00002`` that hold the names in *shards*."""
    folder = index(home, {n: f"model-{s}-of-00002.safetensors" for n, s in weight_map.items()})
    for shard, names in shards.items():
        tensors = {name: [1.0] for name in names}
        save(folder / f"model-{shard.strip('_')}-of-00002.safetensors", **tensors)
    return folder


BOTH_NAMED = {"a": "00001", "b": "00002"}


@TABLE.row("A22 a missing shard", 3, "model-00002-of-00002.safetensors", "missing")
def missing(home: Path) -> Path:
    return sharded(home, BOTH_NAMED, _00001=("a",))


@TABLE.row("A22 a shard lacks its key", 3, "'b'", "model-00002-of-00002.safetensors")
def lacking(home: Path) -> Path:
    return sharded(home, BOTH_NAMED, _00001=("a",), _00002=("c",))


@TABLE.row("A22 a key in two shards", 3, "'a'", "00001-of", "00002-of")
def doubled(home: Path) -> Path:
    return sharded(home, BOTH_NAMED, _00001=("a",), _00002=("a", "b"))


@TABLE.row("A22 a shard that nobody names", 3, "model-00003-of-00002.safetensors")
def unnamed(home: Path) -> Path:
    return sharded(home, BOTH_NAMED, _00001=("a",), _00002=("b",), _00003=("c",))


@TABLE.row("A22 all problems at once", 3, "00001-of", "00004-of", "00003-of", "3 problems")
def several(home: Path) -> Path:
    return sharded(home, {"a": "00001", "b": "00002", "d": "00004"}, _00002=("b",), _00003=("c",))


@TABLE.row("A22 a key that the index does not name", 3, "'c'", "model-00002-of-00002.safetensors")
def unlisted(home: Path) -> Path:
    return sharded(home, BOTH_NAMED, _00001=("a",), _00002=("b", "c"))


for what, value in (("a list", ["a"]), ("none", None), ("of numbers", {"a": 1}), ("empty", {})):
    add(f"A22 a weight map that is {what}", partial(index, weight_map=value), 3, "x/" + INDEX)


def raw_index(content: bytes, home: Path) -> Path:
    (home / "x").mkdir()
    return put(home / "x", content, INDEX)


add("A22 an index that is no JSON", partial(raw_index, b'{"weight_map": '), 3, "JSON")
add("A22 an index that is not UTF-8", partial(raw_index, b'{"\xff": 1}'), 3, "utf-8")
add("A22 an index that is empty", partial(raw_index, b""), 3)
TABLE.append(
    Row("A22 an index 200,000 deep", partial(raw_index, b"[" * 200_000), 3, ("deep",), READ)
)


for id, text in (
    ("a tensor", b'{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}'),
    ("its weight_map", b'{"weight_map": {"a": "1.safetensors"}, "weight_map": {}}'),
):
    add(f"A9 an index with {id} twice", partial(raw_index, text), 3, "appears twice", INDEX)


@TABLE.row("A22 an index that says more than a weight map works", 0)
def said_more(home: Path) -> Path:
    folder = sharded(home, {"conv.bias": "00001", "conv.weight": "00001"})
    save(folder / "model-00001-of-00002.safetensors")
    value = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, **value, "more": 1}))
    return folder


@TABLE.row("A9 shards of two soups", 3, "notes differ", "x/" + INDEX)
def of_two_soups(home: Path) -> Path:
    folder = sharded(home, BOTH_NAMED)
    for name, shard in BOTH_NAMED.items():
        notes = {"soupmerge": json.dumps({"model": shard})}
        file = folder / f"model-{shard}-of-00002.safetensors"
        safetensors.numpy.save_file({name: np.ones(1, "f4")}, file, notes)
    return folder


@TABLE.row(
    "A9 images of two arrays of one name",
    3,
    "several arrays",
    lines=("eval {good} --model digits-cnn --data npz:{x}",),
)
def two_arrays(home: Path) -> Path:
    np.savez(home / "x.npz", x=np.zeros((1, 1, 8, 8), "u1"), y=np.zeros(1, "i8"))
    with warnings.catch_warnings(), zipfile.ZipFile(home / "x.npz", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("y.npy", archive.read("y.npy"))
    return home / "x.npz"


@TABLE.row("A22 an index beside a single file", 3, "model.safetensors", INDEX)
def old_and_new(home: Path) -> Path:
    folder = sharded(home, BOTH_NAMED, _00001=("a",), _00002=("b",))
    save(folder / "model.safetensors")
    return folder


# ---- A54: names of files

add("A54 there is no such file", lambda home: home / "nowhere.safetensors", 3, "nowhere")
add("A54 a folder on the way is a file", lambda home: home / "good.safetensors" / "x", 3)
add("A54 a path of 5,000 characters", lambda home: home / ("x" * 5000), 3)


@TABLE.row("A54 no right to read", 3, "denied", nobody=True)
def forbidden(home: Path) -> Path:
    path = save(home / "x.safetensors")
    path.chmod(0)
    return path


def named(name: str, home: Path) -> Path:
    return save(home / name)


for name in (
    "two words.safetensors",
    "größe 漢字.safetensors",
    "new\nline.safetensors",
    "quote'\".safetensors",
    "[red]x[0].safetensors",
    "%s{0}.safetensors",
    os.fsdecode(b"\xff\xfe.safetensors"),
):
    add(f"A54 '{ascii(name)[1:-1]}' works", partial(named, name), 0)
add(
    "A54 a leading dash works",
    partial(named, "-x.safetensors"),
    0,
    lines=("inspect -- -x.safetensors",),
)
add(
    "A54 a bad file whose name steers the terminal",
    partial(put, content=b"", name="x\x1b[2J\n.pt"),
    3,
    r"x\x1b[2J\n.pt",
)
