"""Classes of networks and of data sets are compared by name, where both name them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError
from soupmerge.sketch import Sketch
from soupmerge.weights import classes

SKETCH = Sketch(("0" * 12,), True).to_text()


def trained_on(home: Path, name: str, *orders: Any, by: str = "finetune") -> sm.Checkpoint:
    entries = [{"by": by, "classes": order, "sketch": SKETCH} for order in orders]
    sm.save(home / f"{name}.safetensors", {"w": torch.ones(1)}, notes={"seen": entries})
    return sm.load(home / f"{name}.safetensors")[0]


class Data:
    ref = "pets"

    def __init__(self, names: list[str] | None) -> None:
        self.names = names

    def fingerprint(self) -> dict[str, Any]:
        return {} if self.names is None else {"classes": self.names}


def test_the_orders_are_those_of_trainings_in_turn(tmp_path: Path) -> None:
    network = trained_on(tmp_path, "a", ["cat", "dog"], None, [], [1, 2], "cat", ["dog", "cat"])
    assert classes.orders_of(network) == [["cat", "dog"], ["dog", "cat"]]
    assert classes.orders_of(trained_on(tmp_path, "b", ["cat"], by="learn")) == []


@pytest.mark.parametrize(
    ("names", "verdict"),
    [
        (None, "fits"),
        (["cat", "dog"], "fits"),
        (["Cat", "DOG"], "fits"),
        (["cat", "dog", "emu"], "fits"),
        (["cat", "emu"], "fits"),
        (["dog", "cat"], "contradicts"),
        (["emu", "cat"], "contradicts"),
        (["emu", "cow"], "is unlike"),
        (["dog", "Dog"], "is unlike"),
    ],
)
def test_data_are_compared_with_what_a_network_was_trained_on(
    tmp_path: Path, names: list[str] | None, verdict: str
) -> None:
    network, data = trained_on(tmp_path, "a", ["cat", "dog"]), Data(names)
    unnamed = trained_on(tmp_path, "b")
    networks: Any = [unnamed, network]
    if verdict == "contradicts":
        with pytest.raises(InputError, match="in a different order") as caught:
            classes.require_same(networks, data)  # type: ignore[arg-type]
        assert caught.value.problems == (f"{network.ref}: trained on cat, dog",)
    elif verdict == "is unlike":
        with pytest.warns(UserWarning, match="trained on cat, dog, but the classes of pets are"):
            classes.require_same(networks, data)  # type: ignore[arg-type]
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classes.require_same(networks, data)  # type: ignore[arg-type]


def test_a_network_trained_in_turn_may_go_with_either_set(tmp_path: Path) -> None:
    network = trained_on(tmp_path, "a", ["cat", "dog"], ["dog", "cat"])
    for names in (["cat", "dog"], ["dog", "cat"]):
        classes.require_same([network], Data(names))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="trained on dog, cat"):
        classes.require_same([network], Data(["cow", "cat", "dog"]))  # type: ignore[arg-type]


def test_networks_of_different_orders_are_named_in_pairs(tmp_path: Path) -> None:
    a = trained_on(tmp_path, "a", ["cat", "dog"])
    b = trained_on(tmp_path, "b", ["dog", "cat"])
    both = trained_on(tmp_path, "c", ["cat", "dog"], ["dog", "cat"])
    silent, other = trained_on(tmp_path, "d"), trained_on(tmp_path, "e", ["emu"])
    assert classes.disagreements([a, silent, b, both, other]) == [
        f"{a.ref} was trained on cat, dog, but {b.ref} on dog, cat"
    ]


def test_twelve_classes_are_listed_and_the_others_counted() -> None:
    names = [f"c{i}" for i in range(13)]
    assert classes.listed(names[:12]) == ", ".join(names[:12])
    assert classes.listed(names) == ", ".join(names[:12]) + ", … (13 in all)"
