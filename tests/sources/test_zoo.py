"""RobustBench's zoo: what is listed, under which names, and where its files are."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from soupmerge.sources import downloads
from soupmerge.sources.robustbench import files, zoo
from tests.shared import Outcome
from tests.sources import robustbench_peer

Typed = Callable[..., Outcome]
PEERS: dict[str, str | None] = json.loads(robustbench_peer.SHAPES.read_text())


def test_every_entry_of_robustbench_is_listed() -> None:
    parts = {name.rpartition("_m")[0] for name in zoo.entries() if name not in PEERS}
    assert set(PEERS) == {name for name in zoo.entries() if name in PEERS} | parts
    assert len(PEERS) == 206


def test_listing_needs_neither_torch_nor_a_network() -> None:
    code = (
        "import sys, socket; socket.socket = None\n"
        "from soupmerge.cli import main\n"
        "status = main.run(['pull', '--list', 'rb'])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(zoo.entries())


def test_a_part_is_listed_by_its_beginning(soupmerge: Typed) -> None:
    result = soupmerge("pull", "--list", "rb:cifar100/Linf", "--json")
    parsed = json.loads(result.out)
    assert {entry["name"].rpartition("/")[0] for entry in parsed} == {"cifar100/Linf"}
    wrong = soupmerge("pull", "--list", "rb:cifar100/L2")
    assert wrong.status == 2
    assert "did you mean" in wrong.err
    assert soupmerge("pull", "--list", "zoo").status == 2


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("rb:cifar10/Linf/Wang2023Better_WRN-28-1", "rb:cifar10/Linf/Wang2023Better_WRN-28-10"),
        ("rb:wang2023better_wrn-70-16", "rb:cifar10/L2/Wang2023Better_WRN-70-16"),
        ("rb:cifar10/Linf/Chen2020Adversarial", "rb:cifar10/Linf/Chen2020Adversarial_m0"),
        ("rb:nothing", "soupmerge pull --list rb"),
        ("rb:", "soupmerge pull --list rb"),
    ],
)
def test_near_misses(soupmerge: Typed, ref: str, said: str) -> None:
    result = soupmerge("inspect", ref)
    assert result.status == 2
    assert said in result.err


def test_addresses_are_https() -> None:
    for entry in zoo.entries().values():
        downloads._require_https(files.address_of(entry), "https://")
        assert entry.licence
        assert entry.start in ("scratch", "unknown") or entry.start in zoo.entries()


def test_no_wide_preactivation_or_residual_network_is_missing() -> None:
    lacking = {name for name, signature in PEERS.items() if signature is None}
    gradient = {n for n in lacking if n.split("/")[0] != "imagenet" and "/corruptions/" not in n}
    # ResNeSt, a neural ODE, and mixtures of several networks
    assert {n.rpartition("/")[2].partition("_")[0] for n in gradient} == {
        "Sehwag2021Proxy",
        "Kang2021Stable",
        "Bai2023Improving",
        "Bai2024MixedNUTS",
    }
    assert not [n for n in lacking if "ConvStem" in n or "XCiT" in n]


def test_the_document_counts_the_networks() -> None:
    found = Counter(e.network.partition("?")[0] for e in zoo.entries().values() if e.network)
    page = (Path(__file__).parents[2] / "docs" / "robustbench.md").read_text()
    rows = re.findall(r"^\| (`.*`) \| (\d+) \|", page, re.MULTILINE)
    result: Counter[str] = Counter()
    for names, count in rows:
        forms = re.findall(r"`([^`]+)`", names)
        assert sum(found[form] for form in forms) == int(count), names
        result.update(forms)
    assert result == dict.fromkeys(found, 1)


# ---- what an entry says


def row(**other: str) -> dict[str, str]:
    found = {"network": "resnet9", "key": "", "licence": "mit", "start": "scratch", "eps": "8/255"}
    return {
        "name": "d/Linf/N",
        "files": "gdrive:a",
        "clean": "90",
        "robust": "50",
        "preprocessing": "",
        **found,
        **other,
    }


def test_members_of_an_ensemble_claim_nothing_that_is_the_ensemble_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They were trained together, or are others': where each began is not known."""
    table = tmp_path / "zoo.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row()))
        writer.writeheader()
        writer.writerows([row(), row(name="d/Linf/E", files="gdrive:a https://x/b gdrive:c")])
    monkeypatch.setattr(zoo, "files", lambda package: tmp_path)
    found = zoo.entries.__wrapped__()
    single, *members = found.values()
    assert list(found) == ["d/Linf/N", "d/Linf/E_m0", "d/Linf/E_m1", "d/Linf/E_m2"]
    assert (single.run, single.clean, single.robust) == ("rb:d/Linf/N", "90", "50")
    assert [m.source for m in members] == ["gdrive:a", "https://x/b", "gdrive:c"]
    for member in members:
        assert (member.start, member.run, member.clean, member.robust) == ("unknown", None, "", "")
        assert (member.network, member.eps, member.licence) == ("resnet9", "8/255", "mit")


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("cifar10/Linf/Standard", "rb:cifar10/Linf/Standard"),
        ("cifar10/L2/Standard", "rb:cifar10/Linf/Standard"),
        ("cifar10/Linf/Huang2021Exploring_ema", "rb:cifar10/Linf/Huang2021Exploring"),
        ("cifar10/Linf/Sehwag2020Hydra", None),
        ("cifar10/Linf/Chen2020Adversarial_m0", None),
    ],
)
def test_an_entry_knows_the_run_that_it_comes_from(name: str, run: str | None) -> None:
    entry = zoo.entry(f"rb:{name}?num_classes=3")
    assert (entry.ref, entry.run) == (f"rb:{name}", run)


def test_a_network_s_arguments_are_added_to_the_entry_s() -> None:
    assert zoo.network("rb:cifar10/Linf/Wu2020Adversarial") == "wrn-34-10"
    assert (
        zoo.network("rb:cifar10/Linf/Wu2020Adversarial?num_classes=3") == "wrn-34-10?num_classes=3"
    )
    hydra = "rb:cifar10/Linf/Sehwag2020Hydra?a=1&b=2"
    assert zoo.network(hydra) == "wrn-28-10?sub_block1=true&a=1&b=2"


@pytest.mark.parametrize("beginning", ["cifar10/L2", "rb:cifar10/L2", "cifar10/L2/"])
def test_a_list_is_of_what_begins_so(beginning: str) -> None:
    found = zoo.listed(beginning)
    assert {e.name for e in found} == {n for n in zoo.entries() if n.startswith("cifar10/L2/")}
    assert (
        len(zoo.listed("rb")) == len(zoo.listed("rb:")) == len(zoo.listed()) == len(zoo.entries())
    )


def test_files_are_at_drive_or_where_the_table_says() -> None:
    at = {name: files.address_of(entry) for name, entry in zoo.entries().items()}
    drive = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
    assert at["cifar10/Linf/Wu2020Adversarial"] == f"{drive}13LBcgNvhFppCFG22i1xATrahFPfMgXGf"
    assert at["imagenet/Linf/Standard_R50"].startswith("https://download.pytorch.org/models/")
    assert len(set(at.values())) > 0.9 * len(at)
