"""Averaging four ViT-B/16 checkpoints: time and memory of whole processes, against mergekit.

The neighbour is installed apart, since it asks for other versions of what soupmerge needs:
`python -m venv MK && MK/bin/pip install mergekit==0.1.5`, and give its `mergekit-pytorch`.
Without it, the ratios against it are left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
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
IMPORTS = "import soupmerge.cli.mix, soupmerge.sources.refs, soupmerge.weights.mixing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit", default="mergekit-pytorch", help="the neighbour's command")
    given = common.options(parser)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make(home, "vit", depth=12, count=4)
        ratios = speed(home, given.mergekit, times=3 if given.quick else 9)
        ratios |= memory(home)
        ratios |= refusal(home, times=3 if given.quick else 9)
    common.answer(ratios, as_json=given.json)


def make(home: Path, name: str, *, depth: int, count: int) -> None:
    """Write *count* checkpoints of a vision transformer, moved a little from one base."""
    import timm

    torch.manual_seed(0)
    base = timm.create_model("vit_base_patch16_224", depth=depth).state_dict()
    for i in range(count):
        moved = {n: t + 0.01 * torch.randn_like(t) for n, t in base.items()}
        save_file(moved, home / f"{name}{i}.safetensors")


def mix_command(pots: list[Path], out: Path) -> list[str]:
    words = [common.PYTHON, "-m", "soupmerge", "mix", *map(str, pots)]
    return [*words, "-w", "uniform", "-o", str(out), "--force", "--quiet"]


def speed(home: Path, mergekit: str, times: int) -> dict[str, Any]:
    pots = [home / f"vit{i}.safetensors" for i in range(4)]
    out, copied, theirs = home / "soup.safetensors", home / "copy", home / "mergekit"
    floor = [common.PYTHON, "-c", FLOOR, *map(str, pots), str(copied)]
    commands = [mix_command(pots, out), floor]
    found = shutil.which(mergekit)
    if found:
        config = home / "uniform.yml"
        entries = "".join(f"  - {{model: {p}, parameters: {{weight: 0.25}}}}\n" for p in pots)
        config.write_text(f"merge_method: linear\ndtype: float32\nmodels:\n{entries}")
        commands.append([found, str(config), str(theirs)])
    medians = common.in_turn(*commands, times=times)
    ratios = {
        "mix / (import torch, copy one, read three)": common.ratio(medians[0] / medians[1], "<= 2")
    }
    if found:
        ratios["mergekit linear / mix"] = common.ratio(medians[2] / medians[0], ">= 3")
        far = difference(load_file(out), load_file(theirs / "model.safetensors"))
        ratios["largest difference from mergekit, in roundings"] = common.ratio(far, "<= 2")
    return ratios


def difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Return the largest difference, in units of float32's spacing at the larger ingredient."""
    assert ours.keys() == theirs.keys()
    worst = 0.0
    for name, tensor in ours.items():
        spacing = torch.finfo(torch.float32).eps * tensor.abs().clamp(min=1e-2)
        worst = max(worst, float(((tensor - theirs[name]).abs() / spacing).max()))
    return worst


def memory(home: Path) -> dict[str, Any]:
    """Peak resident memory above that of the imports; no file is mapped, so all of it is ours."""
    make(home, "deep", depth=24, count=4)
    four = [home / f"vit{i}.safetensors" for i in range(4)]
    sixteen = [home / f"many{i}.safetensors" for i in range(16)]
    for i, path in enumerate(sixteen):
        os.link(four[i % 4], path)
    twice = [home / f"deep{i}.safetensors" for i in range(4)]
    floor = common.peak([common.PYTHON, "-c", IMPORTS])
    ratios = {}
    for what, pots in (("4", four), ("16", sixteen), ("4 of twice the tensors", twice)):
        extra = common.peak(mix_command(pots, home / "soup.safetensors")) - floor
        ratios[f"peak memory above the imports / 300 MiB, {what}"] = common.ratio(
            max(extra, 0) / (300 << 20), "<= 1"
        )
    return ratios


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
        for _ in range(times)
    ]
    slow, quick = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {
        "refuse a bad 1 GB file / inspect a good one of 1 MB": common.ratio(slow / quick, "<= 2")
    }


if __name__ == "__main__":
    main()
