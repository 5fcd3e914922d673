"""Run folders that are locked, torn, or of another time, and memory that ends: sections F to H."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from soupmerge.cli.main import run as type_in
from soupmerge.storage import run_folder
from tests.hostile.commands import FEW, network, two
from tests.hostile.guard import ROOM
from tests.hostile.headers import packed
from tests.hostile.rows import CLICK, READ, Row, Table
from tests.hostile.torchfiles import saved

TABLE = Table()
EVAL = f"eval {{x}} {{home}}/y.safetensors {FEW} -o {{home}}/run"
LEARN = (
    f"learn {{x}} {{home}}/y.safetensors {FEW} --augment none --epochs 2 --eps 0 -o {{home}}/run"
)
HELD = contextlib.ExitStack()
"""What a row holds while its command runs."""


def add(id: str, make: Callable[[Path], Any], status: int, *words: str, **more: Any) -> None:
    more = {"lines": (EVAL,), **more}
    TABLE.append(Row(id, make, status, words, **more))


def finished(home: Path, line: str = EVAL) -> Path:
    """Make a finished run of two networks."""
    path = two(home)
    assert type_in(line.format(x=path, home=home).split()) == 0
    return path


def edited(name: str, edit: Callable[[bytes], bytes], home: Path, line: str = EVAL) -> Path:
    """Make a finished run, of which the file *name* is edited then."""
    path = finished(home, line)
    file = home / "run" / name
    file.write_bytes(edit(file.read_bytes()))
    return path


# ---- F6: no memory


@TABLE.row("F6 no memory left", 5, "memory", lines=READ, lean=True, env={ROOM: str(32 << 20)})
def turned(home: Path) -> Path:
    """A tensor that lies in its file in another order than its own is kept whole: 64 MB here."""
    return saved(home, {"w": torch.zeros(4096, 4096).t()})


# ---- G: two writers


def locked(home: Path) -> Path:
    path = two(home)
    HELD.enter_context(run_folder.opened(home / "run", {"command": "eval"}))
    return path


def released(home: Path) -> None:
    HELD.close()
    assert not (home / "run" / ".holder").exists()


add(
    "G1 another process writes there",
    locked,
    5,
    str(os.getpid()),
    socket.gethostname(),
    check=released,
)


def stale(home: Path, who: str) -> Path:
    path = finished(home)
    (home / "run" / ".lock").touch()
    (home / "run" / ".holder").write_text(who)
    return path


def no_holder(home: Path) -> None:
    assert not (home / "run" / ".holder").exists()


add(
    "G2 its writer is dead",
    partial(stale, who="process 4194305 on here"),
    0,
    "%",
    makes=("run/.holder",),
    check=no_holder,
)


def closed(home: Path) -> Path:
    path = finished(home)
    (home / "run").chmod(0)
    return path


add("G2 a run folder that may not be opened", closed, 5, "run", "denied", nobody=True)

# ---- H: journals and manifests


def mended(home: Path) -> None:
    torn = home / "run" / "trials.jsonl.torn"
    whole = (home / "run" / "trials.jsonl").read_bytes()
    assert torn.read_bytes() == whole[:-5]
    assert whole.count(b"\n") == 2


def cut(data: bytes) -> bytes:
    return data[:-5]


def doubled(data: bytes) -> bytes:
    """Return the JSON object *data* with another value for its first key, in front."""
    return b'{"%s": 0,' % data.split(b'"')[1] + data[data.index(b"{") + 1 :]


JOURNAL = ("run/trials.jsonl", "run/flags.csv")
add(
    "H1 a torn last line",
    partial(edited, "trials.jsonl", cut),
    0,
    "torn",
    makes=JOURNAL,
    check=mended,
)
add(
    "H1 nothing but a torn line",
    partial(edited, "trials.jsonl", lambda d: d[:20]),
    0,
    "torn",
    makes=JOURNAL,
)
for id, edit in (
    ("a number changed", lambda d: d.replace(b'"sha256": "', b'"sha256": "0', 1)),
    ("zeros in its first line", lambda d: b"\0\0\0" + d[3:]),
    ("its first line gone", lambda d: d[:9] + d[d.index(b"\n") :]),
    ("a line of brackets", lambda d: b"[" * 200_000 + b"\n" + d),
    ("a line that is a list", lambda d: b"[]\n" + d),
    ("a line that is empty", lambda d: b"\n" + d),
):
    add(f"H2 {id}", partial(edited, "trials.jsonl", edit), 3, "trials.jsonl", "line 1")
add(
    "H2 its lines turned around",
    partial(edited, "trials.jsonl", lambda d: b"".join(d.splitlines(keepends=True)[::-1])),
    3,
    "trials.jsonl",
)
add(
    "H2 a line too many",
    partial(edited, "trials.jsonl", lambda d: d + d[: d.index(b"\n") + 1]),
    3,
    "trials.jsonl",
)


@TABLE.row("H2 a pipe for a journal", 3, "trials.jsonl", lines=(EVAL,))
def piped(home: Path) -> Path:
    path = finished(home)
    (home / "run" / "trials.jsonl").unlink()
    os.mkfifo(home / "run" / "trials.jsonl")
    return path


for id, edit in (
    ("cut", cut),
    ("empty", lambda d: b""),
    ("a list", lambda d: b"[]"),
    ("200,000 deep", lambda d: b"[" * 200_000),
    ("of no command", lambda d: d.replace(b'"command"', b'"comand"')),
):
    add(f"H2 a manifest that is {id}", partial(edited, "manifest.json", edit), 3, "manifest.json")


TWICE = "appears twice"
add("A9 a manifest with a key twice", partial(edited, "manifest.json", doubled), 3, TWICE)


def sealed(home: Path) -> Path:
    """Make a finished run with a record that has a key twice, and the right checksum."""
    path = finished(home)
    file = home / "run" / "trials.jsonl"
    first, *more = file.read_text().splitlines(keepends=True)
    text = '{"a": 1, "a": 2, ' + first[1 : first.rindex(', "crc"')] + "}"
    crc = zlib.crc32(text.encode())
    file.write_text(f'{text[:-1]}, "crc": "{crc:08x}"}}\n' + "".join(more))
    return path


add("A9 a record with a key twice", sealed, 3, "trials.jsonl", "line 1")


def unfinished(content: bytes, home: Path) -> Path:
    """Make a run of learn that is not finished, with a state of *content*."""
    path = finished(home, LEARN)
    (home / "run" / "trials.jsonl").unlink()
    (home / "run" / "state.safetensors").write_bytes(content)
    return path


STATE_TWICE = b'{"__metadata__": {"position": "{}", "position": "{}"}}'
POSITION_TWICE = json.dumps({"__metadata__": {"position": '{"step": 1, "step": 2}'}}).encode()
for id, content in (
    ("empty", b""),
    ("no state", b"\2\0\0\0\0\0\0\0{}"),
    ("random", b"\x80" * 99),
    ("two states", packed(STATE_TWICE, b"")),
    ("of two positions", packed(POSITION_TWICE, b"")),
):
    add(
        f"H2 a state that is {id}",
        partial(unfinished, content),
        3,
        "state.safetensors",
        "--force",
        lines=(LEARN,),
        makes=("run/images.csv",),
    )


def other_weights(home: Path) -> Path:
    path = finished(home)
    network(home, 7, name="y.safetensors")
    return path


add("H4 other weights", other_weights, 2, "sha256", "--force", fix=r"was (.+), now (?!\1;)")
add("H4 other images", finished, 2, "run", "--force", lines=(EVAL + " --limit 9",))
add("H4 another threat", finished, 2, "run", "--force", lines=(EVAL + " --threat linf:0.1",))
add("H4 another command", finished, 2, "command was 'eval', now 'learn'", lines=(LEARN,))
add("H5 a finished run", finished, 0, "%", lines=(EVAL, EVAL))


def manifest(home: Path, **changes: Any) -> Path:
    path = finished(home)
    file = home / "run" / "manifest.json"
    value = json.loads(file.read_text())
    file.write_text(json.dumps({**value, **changes}, indent=1) + "\n")
    return path


add("H6 another torch", partial(manifest, environment={"torch": "1.0"}), 0, "other versions")
add(
    "H8 a newer soupmerge",
    partial(manifest, format="soupmerge-run/2"),
    3,
    "manifest.json",
    "soupmerge-run/2",
    "newer soupmerge",
)
add(
    "H8 a newer soupmerge, with --force",
    partial(manifest, format="soupmerge-run/2"),
    3,
    "manifest.json",
    "newer soupmerge",
    lines=(EVAL + " --force",),
)
CHECK = f"check {{x}} {{home}}/y.safetensors {FEW} --split test -o {{home}}/run"


def kept_barriers(edit: Callable[[dict[str, Any]], dict[str, Any]], home: Path) -> Path:
    path = finished(home, CHECK)
    file = home / "run" / "barriers.json"
    file.write_text(json.dumps(edit(json.loads(file.read_text()))))
    return path


for id, change in (
    ("with a key of none", lambda value: {**value, "reasons": []}),
    ("of another verdict", lambda value: {**value, "verdict": "of course"}),
):
    make = partial(kept_barriers, change)
    add(f"A9 barriers {id}", make, 3, "barriers.json", "--force", lines=(CHECK,))
add("H8 no soupmerge's", partial(manifest, format="thesis"), 3, "manifest.json")
NEWER = b'{"format": "soupmerge-recipe/2"}'
add(
    "H8 a newer recipe",
    lambda home: (home / "x.json").write_bytes(NEWER) and home / "x.json",
    3,
    "soupmerge-recipe/1",
    "newer soupmerge",
    lines=("mix {good} --recipe {x} -o {out}",),
)
add(
    "H9 --resume",
    finished,
    2,
    "--resume",
    lines=(EVAL + " --resume",),
    fix=f"{CLICK}|No such option",
)
