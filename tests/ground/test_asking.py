"""A classifier is asked about one image before work begins, and by the outputs of the classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from soupmerge.asking import answering, probe
from soupmerge.errors import InputError, NumericsError
from soupmerge.label_spaces.outputs import Outputs

CPU = torch.device("cpu")


class OneImage:
    """Data of which the first image is asked for, labels up to *top*, perhaps with names."""

    ref, ids = "one", ("a", "b")

    def __init__(self, top: int = 2, n: int = 2, names: tuple[str, ...] | None = None) -> None:
        self.labels, self.classes, self.n, self.names = torch.tensor([0, top]), top + 1, n, names

    def __len__(self) -> int:
        return self.n

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        assert indices.tolist() == [0]
        return torch.zeros(1, 1, 4, 4), self.labels[indices]

    def fingerprint(self) -> dict[str, Any]:
        return {} if self.names is None else {"classes": list(self.names)}


def raising(error: Exception) -> Callable[[Tensor], Tensor]:
    def classifier(x: Tensor) -> Tensor:
        raise error

    return classifier


@pytest.mark.parametrize(
    ("classifier", "words"),
    [
        (
            raising(ValueError("bad shape\nof it")),
            r"cannot take images of shape \(1, 4, 4\): bad shape",
        ),
        (raising(KeyError()), "cannot take images.*: KeyError"),
        (lambda x: [1, 2], r"returns list, not logits \(1, classes\)"),
        (lambda x: torch.zeros(3), r"returns \(3,\), not logits"),
        (lambda x: torch.zeros(2, 3), r"returns \(2, 3\), not logits"),
        (lambda x: torch.zeros(1, 3, 1), r"returns \(1, 3, 1\), not logits"),
        (lambda x: torch.zeros(1, 3, dtype=torch.long), "returns logits of torch.int64"),
        (lambda x: torch.zeros(1, 2), "has 2 classes, but the data have a label 2"),
    ],
)
def test_what_cannot_classify_the_data_is_refused_before_any_work(
    classifier: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words) as refused:
        probe(classifier, OneImage(), CPU, where="mine.pt", fix="take others")
    assert refused.value.where == "mine.pt"
    assert "of it" not in str(refused.value)
    if "cannot take" in words:
        assert refused.value.fix == "take others"
        with pytest.raises(InputError, match="choose data of the kind it was trained on") as found:
            probe(classifier, OneImage(), CPU)
        assert found.value.where == "model"


def test_what_can_classify_is_asked_once_without_a_gradient() -> None:
    asked: list[bool] = []

    def classifier(x: Tensor) -> Tensor:
        asked.append(torch.is_grad_enabled())
        return torch.zeros(1, 3)

    probe(classifier, OneImage(), CPU)
    assert asked == [False]
    with pytest.raises(NumericsError, match="ours"):
        probe(raising(NumericsError("ours")), OneImage(), CPU)


def test_data_that_name_their_classes_have_those_of_the_network() -> None:
    named = OneImage(top=1, n=100, names=("cat", "dog", "emu"))
    probe(lambda x: torch.zeros(1, 3), named, CPU)
    for outputs in (2, 4):
        words = f"has {outputs} outputs, but one has 3 classes; use data with its {outputs}"
        with pytest.raises(InputError, match=words) as refused:
            probe(lambda x, k=outputs: torch.zeros(1, k), named, CPU, where="mine.pt")
        assert refused.value.where == "mine.pt"


@pytest.mark.parametrize(("n", "outputs", "warned"), [(9, 6, False), (10, 6, True), (99, 3, False)])
def test_labels_that_are_too_few_for_chance_are_warned_of(
    n: int, outputs: int, warned: bool
) -> None:
    """Of ten images all are among half of the classes once in 1024 times, of nine in 512."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        probe(lambda x: torch.zeros(1, outputs), OneImage(top=2, n=n), CPU, where="mine.pt")
    words = [str(warning.message) for warning in found]
    expected = f"mine.pt: has {outputs} outputs, but one has no label above 2; check that"
    assert [line.startswith(expected) for line in words] == [True] * warned


# ---- by the outputs that stand for its classes


class Restricted(OneImage):
    """One image of a set whose classes are two of a network's outputs."""

    outputs = Outputs(((2,), (0,)), of=3, ref="pets")


def test_a_network_answers_by_the_outputs_of_the_classes() -> None:
    def classifier(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]

    x = torch.rand(5, 1, 4, 4)
    plain, restricted = OneImage(), Restricted(top=1)
    assert answering(classifier, plain) is classifier
    assert answering(classifier, restricted)(x).equal(classifier(x)[:, [2, 0]])


def test_a_network_with_other_outputs_than_the_space_is_refused_before_any_work() -> None:
    probe(lambda x: torch.zeros(1, 3), Restricted(top=1), CPU)
    for count in (2, 4):
        words = f"mine.pt: has {count} outputs, but 3 are named by pets; name those"
        with pytest.raises(InputError, match=words):
            probe(lambda x, k=count: torch.zeros(1, k), Restricted(top=1), CPU, where="mine.pt")
