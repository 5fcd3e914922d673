"""A network under attack: verdicts, gradients and time, against pyautoattack 0.2.

`evaluate.py NETWORK.safetensors --data folder:DATA` judges your network, which should be right on
20% to 60% of the images under attack. Without one, a small network is trained on scikit-learn's
digits and judged at radii where this holds. Its times say little, because such a small network
takes only a small part of them.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import common
import pyautoattack
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from watching import NORMS, Case, Recorded, Watched, clock, some, tell, timed, unbound

import soupmerge as sm
from soupmerge.robustness.meter import answers_right

THREATS = ("linf:8/255", "l2:0.5", "l1:12")
FOR_DIGITS = ("linf:0.19", "l2:0.75", "l1:1.5")
FEW = 6  # gradients that a fooled image may cost
SHORT = 25  # steps for measuring the time outside the network
Row = dict[str, Any]


def main() -> None:
    given = options()
    torch.set_num_threads(given.threads)
    logging.disable(logging.WARNING)
    case, rows = made(given), {}
    for part in given.parts:
        for what, row in PARTS[part](case, given).items():
            tell(f"  {what}: {row}")
            rows[what] = row
    common.answer(rows, as_json=given.json)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", metavar="FILE", help="network to judge")
    parser.add_argument("--data", default="digits", help="data set, as for soupmerge")
    parser.add_argument("--limit", type=int, help="number of test images [default: 1000]")
    parser.add_argument("--threat", action="append", type=sm.Threat.parse, dest="threats")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of what is timed, in turn")
    parser.add_argument(
        "--autoattack", type=int, default=500, help="number of images for AutoAttack"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = common.options(parser)
    if given.quick:
        given.limit, given.rounds, given.autoattack = given.limit or 200, 1, 20
    return given


def made(given: argparse.Namespace) -> Case:
    """Return the network and the images to judge."""
    data = some(sm.data(given.data), given.limit or 1000)
    with tempfile.TemporaryDirectory() as folder:
        ingredient = sm.load(given.network or trained(Path(folder), given.seed))
        bound = sm.bind(sm.model(like=ingredient), ingredient[0])
    usual = THREATS if given.network else FOR_DIGITS
    threats = given.threats or [sm.Threat.parse(text) for text in usual]
    settings = (given.steps, given.batch_size, given.seed, given.rounds)
    return Case(unbound(bound), bound, data, tuple(threats), *settings)


def trained(home: Path, seed: int) -> Path:
    """Return a network trained on digits against Linf 0.1, in seconds."""
    train, out = sm.data("digits", split="train"), home / "digits.safetensors"
    schedule, net = sm.Schedule(epochs=20, lr=0.1, augment="none"), sm.model("digits-cnn")
    sm.finetune(net, train, sm.against(sm.Linf(0.1)), out, schedule=schedule, seed=seed)
    return out


def same(case: Case, given: argparse.Namespace) -> dict[str, Row]:
    """Count the verdicts that differ from pyautoattack's, from the same starts and batches.

    If some do, also count those in which pyautoattack differs from itself when convolutions round
    differently: so many verdicts are decided by rounding.
    """
    rows, todo = {}, case.right()
    for threat in case.threats:
        theirs, ours = (f(case.plain, threat, todo) for f in (case.theirs, case.ours))
        row: Row = {"images": len(case.data), "right": len(todo), "robust": int(theirs.sum())}
        if not torch.equal(theirs, ours):
            again = case.theirs(case.bound, threat, todo)
            row["pyautoattack from itself"] = int((theirs != again).sum())
        row |= common.ratio(int((theirs != ours).sum()), "<= 0")
        rows[f"verdicts that differ from pyautoattack's, {threat}"] = row
    return rows


def cost(case: Case, given: argparse.Namespace) -> dict[str, Row]:
    """Count gradients, and time whole evaluations in float32 and bfloat16."""
    threat, todo, counted = case.threats[0], case.right(), Watched(case.plain)
    attack = sm.APGD(threat, steps=case.steps)
    recorded = Recorded(attack)
    wide, cheap, bare = (
        case.judge(*options) for options in ((attack,), (recorded, "bf16"), (attack, "bf16"))
    )
    works: dict[str, Callable[[], Any]] = {
        "theirs": lambda: case.theirs(counted, threat, todo),
        "float32": lambda: wide(case.bound),
        "bf16": lambda: cheap(case.bound),
        "bf16 without attacking a sample again": lambda: unsampled(bare, case.bound),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    found = {}
    for _ in range(case.rounds):
        for name, work in works.items():
            found[name], *seconds = timed(work)
            took[name].append((seconds[0], seconds[1]))
            tell(f"{name}: {seconds[0]:.1f} s of wall time, {seconds[1]:.1f} s of processor time")
    full, half = (found[name].right(str(threat)) for name in ("float32", "bf16"))
    fell = [i for i in todo.tolist() if not half[i]]
    sure = confirmed(case, recorded, threat, torch.tensor(fell))
    alike = float((full == half).double().mean())
    spent = found["float32"].cost["gradient_evaluations"]
    robust, right = int(full.sum()), len(todo)
    most = (robust * case.steps + FEW * (right - robust)) / (right * (case.steps + 1))
    seen = {
        "images": len(case.data),
        "right": right,
        "robust": robust,
        "theirs": int(found["theirs"].sum()),
    }
    share = spent * case.rounds / counted.gradients
    a_fall = (spent - robust * case.steps) / max(right - robust, 1)
    goals = dict.fromkeys(works, ">= 5") | {"float32": ">= 2.4"}
    return {
        "gradients / pyautoattack's": common.ratio(share, f"<= {most:.3f}") | seen,
        "gradients for an image that is fooled": common.ratio(a_fall, f"<= {FEW}"),
        "verdicts in bf16 as in float32": common.ratio(alike, ">= 0.995"),
        "fooled in bf16, confirmed in float32": common.ratio(sure, ">= 1"),
        **{
            f"time, pyautoattack / {name}": faster(took["theirs"], took[name], goals[name])
            for name in list(works)[1:]
        },
    }


def unsampled(judge: sm.Benchmark, net: nn.Module) -> sm.Report:
    """Return the report made without attacking a sample of robust images again in float32."""
    with mock.patch("soupmerge.robustness.judge.MOST_RECHECKED", 0):
        return judge(net)


def confirmed(case: Case, attack: Recorded, threat: sm.Threat, fell: Tensor) -> float:
    """Return the share of *fell* whose recorded adversarial images fool the network in float32."""
    x, y = case.data.batch(fell)
    x_adv = threat.project(torch.stack([attack.points[i] for i in fell.tolist()]), x)
    wrong = ~answers_right(case.bound, x_adv, y)
    return float((wrong & threat.contains(x_adv, x)).double().mean())


def faster(theirs: list[tuple[float, float]], ours: list[tuple[float, float]], goal: str) -> Row:
    """Return how many times faster *ours* is, in wall time and processor time: medians."""
    rounds = zip(theirs, ours, strict=True)
    ratios = [(them[0] / own[0], them[1] / own[1]) for them, own in rounds]
    wall, busy = (statistics.median(column) for column in zip(*ratios, strict=True))
    return common.ratio(wall, goal) | {"of processor time": round(busy, 3)}


def overhead(case: Case, given: argparse.Namespace) -> dict[str, Row]:
    """Time what is outside the network's forward and backward passes, in short attacks."""
    rows, short = {}, replace(case, data=some(case.data, 2 * case.batch))
    for threat in case.threats:
        judge, parts = short.judge(sm.APGD(threat, steps=SHORT)), []
        for _ in range(max(case.rounds, 3)):
            watched, began = Watched(case.bound), clock()
            with watched.backward_too():
                judge(watched)
            parts.append(1 - watched.seconds / (clock() - began))
        row = common.ratio(statistics.median(parts), "<= 0.05")
        rows[f"time outside the network, {threat}"] = row
    return rows


def autoattack(case: Case, given: argparse.Namespace) -> dict[str, Row]:
    """Judge some images with standard AutoAttack, soupmerge's and pyautoattack's."""
    case, threat = replace(case, data=some(case.data, given.autoattack)), case.threats[0]
    x, y = case.data.batch(torch.arange(len(case.data)))

    def theirs() -> Tensor:
        settings = {"norm": NORMS[threat.norm], "eps": threat.eps, "seed": case.seed}
        attack = pyautoattack.AutoAttack(case.plain, **settings)
        return attack.run_standard_evaluation(x, y, batch_size=case.batch)[0]  # type: ignore[no-any-return]

    report, *own = timed(lambda: case.judge(sm.AutoAttack(threat))(case.bound))
    x_adv, *other = timed(theirs)
    reference, robust = answers_right(case.plain, x_adv, y), report.right(str(threat))
    apart = int((reference != robust).sum())
    seen = {"images": len(x), "robust": int(robust.sum()), "theirs": int(reference.sum())}
    seen |= {"verdicts that differ": apart, "seconds": round(own[0]), "of theirs": round(other[0])}
    speed = faster([(other[0], other[1])], [(own[0], own[1])], ">= 1.5")
    unlike = common.ratio(apart / len(x), "<= 0.01")
    return {
        "share of AutoAttack's verdicts that differ from pyautoattack's": unlike | seen,
        "time, pyautoattack's AutoAttack / ours": speed,
    }


def card(case: Case, given: argparse.Namespace, device: str = "cuda") -> dict[str, Row]:
    """Time WRN-28-10 on a GPU; random weights are enough, because every image takes all steps."""
    if not torch.cuda.is_available() and device == "cuda":
        tell("no CUDA device: WRN-28-10's images a second are left out")
        return {}
    net = sm.model("wrn-28-10")
    bound = sm.bind(net, net.state_dict(), device=device)
    x = torch.rand(2 * case.batch, 3, 32, 32, generator=torch.Generator().manual_seed(case.seed))
    with torch.no_grad():
        y = torch.cat(
            [bound(some.to(device)).argmax(1).cpu() for some in torch.split(x, case.batch)]
        )
    case, tiny = replace(case, data=sm.Images.of(x, y, classes=10)), sm.Linf(1e-6)
    judge = case.judge(sm.APGD(tiny, steps=case.steps, until_fooled=False), "bf16")
    _, own, _ = timed(lambda: unsampled(judge, bound))
    _, other, _ = timed(lambda: case.theirs(unbound(bound), tiny, torch.arange(len(x))))
    with FlopCounterMode(display=False) as counter:
        point = x[:1].to(device).requires_grad_(True)
        bound(point).sum().backward()
    done = counter.get_total_flops() * len(x) * (case.steps + 1) / own
    row = {"images a second": len(x) / own, "share of reachable flops": done / reachable(device)}
    return {
        "WRN-28-10 in bf16, time of pyautoattack / ours": common.ratio(other / own, ">= 5") | row
    }


def reachable(device: str, size: int = 8192) -> float:
    """Return the operations per second that a product of two large matrices in bf16 reaches."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / statistics.median(timed(lambda: a @ a)[1] for _ in range(20))


PARTS: dict[str, Callable[[Case, argparse.Namespace], dict[str, Row]]] = {
    "same": same,
    "cost": cost,
    "overhead": overhead,
    "card": card,
    "autoattack": autoattack,
}

if __name__ == "__main__":
    main()
