"""How a learned soup came about: its loss and its mean coefficients, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from soupmerge.figures import style


def learning(records: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    """Return loss and mean coefficients over epochs."""
    figure = style.new_figure(7.2, 3.0)
    epochs = [record["epoch"] for record in records]
    loss, weights = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    loss.plot(epochs, [record["loss"] for record in records], color=style.COLOURS["clean"])
    loss.set_xlabel("epoch")
    loss.set_ylabel("training loss")
    for k, name in enumerate(names):
        line = ("-", "--", ":", "-.")[k % 4]
        weights.plot(epochs, [record["weights"][k] for record in records], line, label=name)
    weights.set_xlabel("epoch")
    weights.set_ylabel("mean coefficient")
    weights.set_ylim(0, 1)
    weights.legend(fontsize=8)
    return figure
