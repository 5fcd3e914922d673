"""Averaging four ViT-B/16 checkpoints: time and memory of whole processes, against mergekit.

mergekit needs other versions of soupmerge's dependencies, so install it in an environment of its
own, `python -m venv MK && MK/bin/pip install mergekit==0.1.5`, and name its `mergekit-pytorch` with
--mergekit. Without it, the ratios against mergekit are left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import torch
from safetensors.torch import load_file, save_file

FLOOR = """
import shutil, sys, torch
shutil.copyfile(sys.argv[1], sys.argv[5])
for path in sys.argv[2:5]:
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
"""
IMPORTS = "import soupmerge.cli.mix, soupmerge.sources.refs, soupmerge.weights.saving"
MAIN = "from soupmerge.cli.main import main; main()"
SCANNING = f"""
import atexit, sys, time
import soupmerge.weights.mixing as mixing
scan, record, spent = mixing.is_finite, sys.argv.pop(1), []

def timed(numbers):
    began = time.perf_counter()
    finite = scan(numbers)
    spent.append(time.perf_counter() - began)
    return finite

mixing.is_finite = timed
atexit.register(lambda: open(record, "w").write(str(sum(spent))))
{MAIN}
"""
"""`soupmerge`, recording how long its check for NaN and Inf took in the file of argument 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit", default="mergekit-pytorch", help="command of mergekit")
    given = common.options(parser)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make(home, "vit", depth=12, count=4)
        ratios = speed(home, given.mergekit, times=3 if given.quick else 9)
        ratios |= memory(home, given.mergekit)
        ratios |= refusal(home, times=3 if given.quick else 9)
    common.answer(ratios, as_json=given.json)


def make(home: Path, name: str, *, depth: int, count: int) -> None:
    """Write *count* checkpoints of a vision transformer, each at a small distance from one base."""
    import timm

    torch.manual_seed(0)
    base = timm.create_model("vit_base_patch16_224", depth=depth).state_dict()
    for i in range(count):
        moved = {n: t + 0.01 * torch.randn_like(t) for n, t in base.items()}
        save_file(moved, home / f"{name}{i}.safetensors")


def mix_words(ingredients: list[Path], out: Path) -> list[str]:
    return ["mix", *map(str, ingredients), "-w", "uniform", "-o", str(out), "--force", "--quiet"]


def mergekit_command(home: Path, mergekit: str) -> list[str]:
    """Return mergekit's command for averaging the checkpoints; empty if it is not installed."""
    found = shutil.which(mergekit)
    if not found:
        return []
    config = home / "uniform.yml"
    entries = "".join(
        f"  - {{model: {home}/vit{i}.safetensors, parameters: {{weight: 0.25}}}}\n"
        for i in range(4)
    )
    config.write_text(f"merge_method: linear\ndtype: float32\nmodels:\n{entries}")
    return [found, str(config), str(home / "mergekit")]


def speed(home: Path, mergekit: str, times: int) -> dict[str, Any]:
    ingredients = [home / f"vit{i}.safetensors" for i in range(4)]
    out = home / "soup.safetensors"
    words, theirs = mix_words(ingredients, out), mergekit_command(home, mergekit)
    commands = [
        [common.PYTHON, "-m", "soupmerge", *words],
        [common.PYTHON, "-c", FLOOR, *map(str, ingredients), str(home / "copy")],
    ]
    ours, floor, *neighbour = common.in_turn(*commands, *([theirs] if theirs else []), times=times)
    listed = ", ".join(f"{t:.2f}" for t in (ours, floor, *neighbour))
    print(f"seconds: mix, floor, mergekit: {listed}", file=sys.stderr)
    ratios = {
        "mix / (import torch, copy one, read three)": common.ratio(ours / floor, "<= 2"),
        "time of the check for NaN and Inf / mix": common.ratio(
            scan_share(home, words, times), "<= 0.05"
        ),
    }
    if neighbour:
        ratios["mergekit linear / mix"] = common.ratio(neighbour[0] / ours, ">= 3")
        far = difference(load_file(out), load_file(home / "mergekit" / "model.safetensors"))
        ratios["largest difference from mergekit, in roundings"] = common.ratio(far, "<= 2")
    return ratios


def scan_share(home: Path, words: list[str], times: int) -> float:
    """Return the share of a mix that the check for NaN and Inf takes, the median of *times* runs.

    It is timed inside the process: whole processes vary by more than the check takes.
    """
    record = home / "scan"
    whole = [
        (common.seconds([common.PYTHON, "-c", SCANNING, str(record), *words]), record.read_text())
        for _ in range(times)
    ]
    return statistics.median(float(spent) / taken for taken, spent in whole)


def difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Return the largest difference, in units of float32's spacing at the larger ingredient."""
    assert ours.keys() == theirs.keys()
    worst = 0.0
    for name, tensor in ours.items():
        spacing = torch.finfo(torch.float32).eps * tensor.abs().clamp(min=1e-2)
        worst = max(worst, float(((tensor - theirs[name]).abs() / spacing).max()))
    return worst


def memory(home: Path, mergekit: str) -> dict[str, Any]:
    """Return peak resident memory above that of the imports, and how much of it is mapped files.

    The mapped part is read at the end, when every library is still loaded; the rest is allocated.
    """
    make(home, "deep", depth=24, count=4)
    four = [home / f"vit{i}.safetensors" for i in range(4)]
    sixteen = [home / f"many{i}.safetensors" for i in range(16)]
    for i, path in enumerate(sixteen):
        os.link(four[i % 4], path)
    twice = [home / f"deep{i}.safetensors" for i in range(4)]
    floor = common.peak(IMPORTS)
    ingredients = {"4": four, "16": sixteen, "4 of twice the tensors": twice}
    words = {what: mix_words(some, home / "soup.safetensors") for what, some in ingredients.items()}
    seen = {what: common.peak(MAIN, *some) for what, some in words.items()}
    ratios = {
        f"peak memory above the imports / 300 MiB, {what}": above(found.peak, floor.peak)
        for what, found in seen.items()
    }
    mapped = max(found.mapped for found in seen.values())
    ratios["largest memory of mapped files above the imports / 300 MiB"] = above(
        mapped, floor.mapped
    )
    for what in list(ingredients)[1:]:
        grown = max(seen[what].peak - seen["4"].peak, 0)
        added = size(ingredients[what]) - size(four)
        ratios[f"growth of the peak from 4 to {what} / growth of the files"] = common.ratio(
            grown / added, "<= 0.01"
        )
    if command := mergekit_command(home, mergekit):
        theirs = common.watched_peak(command)
        for who, found in (("imports", floor), ("mix", seen["4"]), ("mergekit", theirs)):
            listed = ", ".join(f"{n} {v >> 20}" for n, v in found._asdict().items())
            print(f"{who}, MiB: {listed}", file=sys.stderr)
        value = theirs.allocated / (seen["4"].peak - seen["4"].mapped)
        ratios["allocated, mergekit / mix"] = common.ratio(value, ">= 1")
    return ratios


def size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def above(seen: int, floor: int) -> dict[str, Any]:
    return common.ratio(max(seen - floor, 0) / (300 << 20), "<= 1")


def refusal(home: Path, times: int) -> dict[str, Any]:
    good, bad = home / "small.safetensors", home / "bad.safetensors"
    save_file({"w": torch.zeros(1 << 18)}, good)
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}'
    with open(bad, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(1 << 30)
    inspect = [common.PYTHON, "-m", "soupmerge", "inspect"]
    rounds = [
        (common.seconds([*inspect, str(bad)], status=3), common.seconds([*inspect, str(good)]))
        for _ in range(times + 1)
    ]
    slow, quick = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    return {
        "refuse a bad 1 GB file / inspect a good one of 1 MB": common.ratio(slow / quick, "<= 2")
    }


if __name__ == "__main__":
    main()
