"""The cost of a step of learning, against a plain step of adversarial training, and its memory.

    python benchmarks/learn.py [--quick] [--json] [--large K] [--trained A B C --data DATA]

Time: resnet18-cifar, batch 64, 2 attack steps, tensor groups, detach dropout 0.8, and 3, 8 and 32
ingredients. Steps take turns in one process, and their medians are compared: a step of `finetune`,
a step of `learn`, one that mixes in every forward pass and differentiates through it (the
definition), and one in bfloat16. With a GPU, they run on CUDA, and WRN-28-10 as well. The error of
the coefficient gradient in bfloat16 is measured on these networks, and on the checkpoints given to
--trained. Memory: whole processes that learn a soup of K networks of the size of ViT-B/32, whose
weights stay in files, or are in memory as bfloat16 differences.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch

import soupmerge as sm
from soupmerge.schedule import stream
from soupmerge.soups.learn.learner import Learner
from soupmerge.soups.learn.soup import draw_active
from soupmerge.training.trainer import Trainer

GOALS = {3: "<= 1.0", 8: "<= 1.05", 32: "<= 1.3"}
BATCH = 64
OBJECTIVE = sm.against(sm.Linf(8 / 255))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

LEARN = """
import sys
import torch
import soupmerge as sm

place, store, folder, k = sys.argv[1:]
ingredients = sm.load(*(f"{folder}/{i}.safetensors" for i in range(int(k))))
net = sm.model(like=ingredients)
x, y = torch.rand(2, 3, 224, 224), torch.arange(2)
settings = sm.Settings(epochs=2, batch_size=2, store=store, place=place)
sm.learn(net, ingredients, sm.Images.of(x, y, classes=1000), sm.against(sm.Linf(4 / 255)),
         settings=settings)
"""
"""Two steps of learning, as a process of its own."""

ONE = """
import sys
import torch
import soupmerge as sm

ingredient = sm.load(f"{sys.argv[1]}/0.safetensors")[0]
net = sm.bind(sm.model(like=ingredient), ingredient)
x, y = torch.rand(2, 3, 224, 224), torch.arange(2)
objective = sm.against(sm.Linf(4 / 255))
objective.craft(net, x, y, generator=torch.Generator())
"""
"""The same network attacked with fixed weights: imports, activations, and one model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", type=int, metavar="K", help="number of ingredients [default: 72; 8 with --quick]"
    )
    parser.add_argument(
        "--trained", nargs="+", default=[], help="trained checkpoints for the error of the gradient"
    )
    parser.add_argument("--data", default="digits", help="data set for these checkpoints")
    given = common.options(parser)
    rounds = 3 if given.quick else 7
    ratios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        for k in (3, 8) if given.quick else GOALS:
            ratios |= step_ratios(Path(home), "resnet18-cifar", k, rounds)
    if DEVICE == "cuda":
        with tempfile.TemporaryDirectory() as home:
            for k in (3, 8):
                ratios |= step_ratios(Path(home), "wrn-28-10", k, rounds)
    if given.trained:
        ingredients, test = (
            sm.load(*given.trained),
            sm.data(given.data, split="test", limit=4 * BATCH),
        )
        both = [learner(sm.model(like=ingredients), ingredients, test, p) for p in ("fp32", "bf16")]
        batches: Any = torch.arange(len(test)).split(BATCH)
        error, apart = gradient_error(both[0], both[1], batches)
        name = "coefficient gradient in bfloat16, trained networks: relative error"
        ratios[name] = common.ratio(error, "<= 0.01") | {"between batches": round(apart, 2)}
    with tempfile.TemporaryDirectory() as home:
        ratios |= memory_ratios(Path(home), given.large or (8 if given.quick else 72))
    common.answer(ratios, as_json=given.json)


def step_ratios(home: Path, model: str, k: int, rounds: int) -> dict[str, Any]:
    """Return the cost of a step with *k* ingredients, relative to a plain step."""
    ingredients = make(home, model, k)
    net = sm.model(like=ingredients)
    data = sm.Images.of(*images(BATCH * 4, 32), classes=10)
    schedule = sm.Schedule(batch_size=BATCH, augment="none")
    plain = Trainer(net, data, OBJECTIVE, ingredients[0], schedule, 0, torch.device(DEVICE))
    learners = {p: learner(net, ingredients, data, p) for p in ("fp32", "bf16")}
    batches: Any = torch.arange(len(data)).split(BATCH)
    sides: dict[str, Callable[[torch.Tensor], Any]] = {
        "plain": plain._step,
        "learned": learners["fp32"].step,
        "default": learner(net, ingredients, data, "fp32", default=True).step,
        "definition": lambda indices: by_definition(learners["fp32"], indices),
        "bf16": learners["bf16"].step,
    }
    taken = in_turn(sides, batches, rounds)
    step = f"{model} on {DEVICE}, K={k}: learning step"
    rows = {
        f"{step} / adversarial-training step": ("learned", "plain", GOALS[k]),
        f"{step} of all groups (the default) / the same": ("default", "plain", ">= 0"),
        f"{step}, mixing in every forward pass / the same": ("definition", "plain", ">= 0"),
        f"{step} / in bfloat16": ("learned", "bf16", ">= 1.7"),
    }
    found = {what: common.ratio(taken[a] / taken[b], goal) for what, (a, b, goal) in rows.items()}
    if DEVICE == "cuda":
        found[f"{step}s a second"] = common.ratio(1 / taken["learned"], ">= 0")
    if k == min(GOALS):
        error, _ = gradient_error(learners["fp32"], learners["bf16"], batches)
        found["coefficient gradient in bfloat16, relative error"] = common.ratio(error, "<= 0.01")
    return found


def make(home: Path, model: str, k: int) -> sm.Ingredients:
    """Write *k* networks around one to *home*, and load them."""
    net = sm.model(model)
    for i in range(k):
        path = home / f"{i}.safetensors"
        if path.exists():
            continue
        noise = stream("ingredient", i)
        state = {
            name: t + 0.05 * t.std() * torch.randn(t.shape, generator=noise) if t.ndim > 1 else t
            for name, t in net.state_dict().items()
        }
        sm.save(path, state, model=model)
    return sm.load(*(home / f"{i}.safetensors" for i in range(k)))


def images(n: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    noise = stream("images")
    return torch.rand(n, 3, size, size, generator=noise), torch.arange(n) % 10


def learner(
    net: torch.nn.Module,
    ingredients: sm.Ingredients,
    data: Any,
    precision: str,
    *,
    default: bool = False,
) -> Learner:
    paper: dict[str, Any] = {"optimiser": "sgd", "dropout": 0.8, "init": "uniform"}
    settings = sm.Settings(
        batch_size=BATCH, precision=precision, place="device", **({} if default else paper)
    )
    return Learner(net, ingredients, data, {OBJECTIVE.name: OBJECTIVE}, settings, device=DEVICE)


def in_turn(
    sides: dict[str, Callable[[torch.Tensor], Any]], batches: Any, rounds: int
) -> dict[str, float]:
    """Return the median seconds of each of *sides*, after a warm-up round."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, step in sides.items():
            began = time.perf_counter()
            step(batches[turn % len(batches)])
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def by_definition(learner: Learner, indices: torch.Tensor) -> torch.Tensor:
    """Take a step by the definition, which mixes inside every forward pass."""
    soup = learner.soup
    x_y = [t.to(DEVICE) for t in learner.data.batch(indices)]
    rows = learner.coefficients.rows((1.0,))
    alpha = learner.coefficients.alpha(rows)

    def mixing(x: torch.Tensor, /) -> torch.Tensor:
        return soup.classifier(soup.weights(alpha.detach()))(x)

    x_adv = OBJECTIVE.craft(mixing, x_y[0], x_y[1], generator=stream("attack"))
    live = draw_active(len(alpha), learner.settings.dropout, stream("dropout"))
    moving = soup.classifier(soup.weights(alpha, live))
    loss = OBJECTIVE.loss(moving, x_y[0], x_adv, x_y[1])
    return torch.autograd.grad(loss, rows)[0]


def gradient(learner: Learner, alpha: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return the part of the coefficient gradient that passes the softmax, on clean images."""
    x, y = (t.to(DEVICE) for t in learner.data.batch(indices))
    soup, mixed = learner.soup, learner.soup.mix(alpha)
    live = torch.ones(len(alpha), dtype=torch.bool)
    leaves = soup.leaves(live, mixed)
    loss = OBJECTIVE.loss(learner._cast(soup.substitute(leaves, mixed)), x, x, y)
    found = torch.autograd.grad(loss, list(leaves.values()))
    into = soup.gradient(dict(zip(leaves, found, strict=True)), live, mixed)
    return into - into.mean(1, keepdim=True)


def gradient_error(full: Learner, half: Learner, batches: Any) -> tuple[float, float]:
    """Return the median of ‖g − g'‖ / ‖g‖ with g' in bfloat16, and with g' from another batch."""
    alpha = full.start[0].softmax(1).detach().to(DEVICE)
    ours, theirs = ([gradient(x, alpha, batch) for batch in batches] for x in (full, half))
    errors = [(a - b).norm() / a.norm() for a, b in zip(ours, theirs, strict=True)]
    apart = [(a - b).norm() / a.norm() for a in ours for b in ours if a is not b]
    return float(torch.stack(errors).median()), float(torch.stack(apart).median())


def memory_ratios(home: Path, k: int) -> dict[str, Any]:
    """Return the memory of learning from *k* networks of ViT-B/32's size, beyond attacking one."""
    ingredients = make(home, "timm:vit_base_patch32_224", k)
    sizes = [info.bytes for info in ingredients.infos.values()]
    whole, largest = sum(sizes), max(sizes)
    one = common.peak(ONE, str(home)).peak
    found = {}
    for place, store, goal in (("files", "fp32", 3 * whole + k * largest), ("host", "bf16", 0)):
        peak = common.peak(LEARN, place, store, str(home), str(k)).peak
        beyond = peak - one + 2 * whole  # ONE had the network and its copy in memory
        name = f"{k} ViT-B/32 in {place}, {store}: peak memory"
        if goal:
            found[f"{name} / (3 models + largest stack)"] = common.ratio(beyond / goal, "<= 1")
        found[f"{name} / 24 GiB"] = common.ratio(peak / (24 << 30), "<= 1")
    return found


if __name__ == "__main__":
    main()
