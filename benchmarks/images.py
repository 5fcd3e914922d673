"""Image sets that do not fit into memory: peak memory, throughput, and time to the first images.

    python benchmarks/images.py [--quick] [--json] [--images N] [-o DIR]

The set is made of JPEG files of about 110 kB (500 × 375 pixels), in ten class folders; N of them
(50,000; --quick: 6,500), most of which are links to others. Peak memory is that of whole commands,
above the same command on 64 images of the set. Throughput is compared with that of torchvision's
ImageFolder and a DataLoader of two workers with the same transforms, and attacks on stored images
with attacks on the same images in memory, in turn in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from PIL import Image, ImageFilter

import soupmerge as sm

QUERY = "?resize=256&crop=224"
SMALL = "digits-cnn?width=2&in_channels=3&num_classes=10"
MAIN = "from soupmerge.cli.main import main; main()"
DISTINCT, FEW, WORKERS = 500, 64, 2


def make(home: Path, n: int) -> Path:
    """Make *n* JPEG files in class folders, and return the folder; what is there is kept."""
    root = home / f"photos-{n}"
    if (root / "complete").exists():
        return root
    originals = home / "originals"
    originals.mkdir(exist_ok=True)
    for i in range(min(n, DISTINCT)):
        photo(i).save(originals / f"{i}.jpg", quality=90 + i % 8)
    for i in range(n):
        folder = root / f"class{i % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(originals / f"{i % DISTINCT}.jpg", folder / f"{i:08d}.jpg")
    (root / "complete").touch()
    return root


def photo(seed: int) -> Image.Image:
    """Return an image with as much detail as a photo: its file has about 110 kB."""
    generator = np.random.default_rng(seed)
    pixels = generator.normal(128, 50, (375, 500, 3)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.8))


def networks(home: Path) -> list[str]:
    """Write two small networks of one family, and return their files."""
    files = []
    for seed in range(2):
        files.append(str(home / f"{seed}.safetensors"))
        sm.save(files[-1], sm.model(SMALL, seed=0).state_dict(), model=SMALL, force=True)
    return files


def memory(home: Path, root: Path) -> dict[str, Any]:
    """Return the peak memory of commands above that on a few images, in GiB."""
    a, b = networks(home)
    data = ["--data", f"folder:{root}{QUERY}", "--split", "test", "--batch-size", "64"]
    attack = ["--eps", "1/255", "--attack-steps", "1"]
    commands = {
        "eval": ["eval", a, *data],
        "grid": ["grid", a, b, *data, "--step", "1"],
        "learn": ["learn", a, b, *data, *attack, "--epochs", "1"],
        "finetune": ["finetune", a, *data, "--threat", "clean", "--epochs", "1"],
    }
    ratios = {}
    for name, words in commands.items():
        peaks = []
        for limit in (["--limit", str(FEW)], []):
            suffix = ".safetensors" if name == "finetune" else ""
            out = [] if name == "eval" else ["-o", tempfile.mktemp(suffix, dir=home)]
            peaks.append(common.peak(MAIN, *words, *limit, *out).peak)
        ratios[f"peak memory of {name} above that on {FEW} images, GiB"] = common.ratio(
            (peaks[1] - peaks[0]) / (1 << 30), "<= 1"
        )
    return ratios


def throughput(root: Path, n: int) -> dict[str, Any]:
    """Return images per second over those of torchvision, by reading alone and by evaluating."""
    net = sm.model(SMALL, seed=0).eval()
    ours, theirs = [], []
    for _ in range(3):
        ours.append(evaluated(sm.data(f"folder:{root}{QUERY}", limit=n), net))
        theirs.append(torchvision_evaluated(root, n, net))
    value = statistics.median(ours) / statistics.median(theirs)
    return {"clean evaluation, images per second / torchvision's": common.ratio(value, ">= 0.9")}


def evaluated(images: sm.Images, net: Any) -> float:
    began = time.perf_counter()
    sm.Benchmark(images, batch_size=64)(net)
    return len(images) / (time.perf_counter() - began)


def torchvision_evaluated(root: Path, n: int, net: Any) -> float:
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    folder = ImageFolder(str(root), transforms.Compose(steps))
    part = Subset(folder, torch.randperm(len(folder))[:n].tolist())
    began = time.perf_counter()
    right = 0
    with torch.no_grad():
        for x, y in DataLoader(part, batch_size=64, num_workers=WORKERS):
            right += int((net(x).argmax(1) == y).sum())
    return n / (time.perf_counter() - began)


def overlap(root: Path, n: int, steps: int) -> dict[str, Any]:
    """Return the time of an attack on stored images over that on the same images in memory."""
    import timm

    torch.manual_seed(0)
    net = timm.create_model("resnet50", num_classes=10).eval().requires_grad_(False)

    def attacked(images: sm.Images) -> float:
        attack = sm.APGD(sm.Linf(1 / 255), steps=steps)
        began = time.perf_counter()
        sm.Benchmark(images, [attack], batch_size=8)(net)
        return time.perf_counter() - began

    def stored() -> sm.Images:
        return sm.data(f"folder:{root}{QUERY}", limit=n)

    images = stored()
    # All images count as right, so that all of them are attacked.
    labels = torch.cat([net(images.batch(i)[0]).argmax(1) for i in torch.arange(n).split(8)])
    in_memory = sm.Images.of(images.pixels[torch.arange(n)], labels, classes=10)
    times = [[attacked(relabelled(stored(), labels)), attacked(in_memory)] for _ in range(2)]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return {"APGD on ResNet-50, stored images / in memory": common.ratio(ours / theirs, "<= 1.05")}


def relabelled(images: sm.Images, labels: torch.Tensor) -> sm.Images:
    return sm.Images(images.ref, images.split, images.ids, images.pixels, labels, 10)


def first_images(home: Path, root: Path) -> dict[str, Any]:
    """Return the seconds until the first batch is judged, less that of the batch itself."""
    net = sm.model(SMALL, seed=0).eval()
    images = sm.data(f"folder:{root}{QUERY}")
    images.fingerprint()  # and now it is in the cache

    class SeenError(Exception):
        pass

    def stop(*done: Any) -> None:
        raise SeenError

    def until_first(progress: Callable[..., None], images: sm.Images) -> None:
        try:
            sm.Benchmark(images, batch_size=64)(net, progress=progress)
        except SeenError:
            return

    began = time.perf_counter()
    images = sm.data(f"folder:{root}{QUERY}")
    images.fingerprint()
    until_first(stop, images)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    images.batch(torch.arange(1000, 1064))
    batch = time.perf_counter() - began
    what = f"seconds until the first of {len(images):,} images are judged, less a batch"
    return {what: common.ratio(whole - batch, "<= 3")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, help="number of images")
    parser.add_argument("--only", action="append", help="memory, throughput, overlap or first")
    parser.add_argument("-o", "--out", metavar="DIR", help="keeps the images")
    given = common.options(parser)
    home = Path(given.out or tempfile.mkdtemp())
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("SOUPMERGE_HOME", str(home / "cache"))
    root = make(home, given.images or (6_500 if given.quick else 50_000))
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "first": lambda: first_images(home, root),
        "throughput": lambda: throughput(root, 500 if given.quick else 2_000),
        "overlap": lambda: overlap(root, *((8, 5) if given.quick else (32, 20))),
        "memory": lambda: memory(home, root),
    }
    chosen: Sequence[str] = given.only or list(parts)
    ratios: dict[str, Any] = {}
    for name in chosen:
        ratios |= parts[name]()
    common.answer(ratios, as_json=given.json)


if __name__ == "__main__":
    main()
