"""What the commands that learn coefficients share: options, preparation, and the plan."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.notes import note_image_size
from soupmerge.cli.options import output
from soupmerge.cli.options.data import Data, data
from soupmerge.cli.options.ingredients import Ingredients, ingredients
from soupmerge.cli.options.learning import Learning, learning
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import Decorator, grouped
from soupmerge.cli.options.output import RunOutput


@dataclass(frozen=True)
class LearnOptions:
    """The options of a command that learns coefficients."""

    ingredients: Ingredients
    data: Data
    learning: Learning
    output: RunOutput
    network: Network
    machine: Machine
    as_json: bool

    def task(self) -> Task:
        """Return the task with its network, ingredients and images loaded."""
        device = self.machine.device()
        loaded = self.ingredients.load(self.learning.policy.base)
        net = self.network.make(like=loaded)
        data = self.data.seen_by(net, loaded)
        images = data.images()
        note_image_size(net, images)
        settings = self.learning.settings(len(loaded), self.machine.batch_size)
        return Task(net, loaded, data, images, settings, device, self)


def learn_options(epochs: str) -> Decorator:
    """Return the options that all commands that learn coefficients have.

    Args:
        epochs: the usual number of epochs, in words.
    """
    return grouped(
        "options",
        LearnOptions,
        ingredients,
        data("train"),
        learning(epochs),
        output.run(),
        network,
        machine(128),
        output.as_json,
    )


@dataclass(frozen=True)
class Task:
    """Coefficients that are ready to be learned, but for settings that only one command has.

    Attributes:
        net: the network of the ingredients.
        ingredients: the ingredients.
        data: the data set, as the network will see it.
        images: the part of it that teaches.
        settings: the settings that all commands have.
        device: device of torch.
        options: what was typed.
    """

    net: Any
    ingredients: sm.Ingredients
    data: Data
    images: sm.Images
    settings: sm.Settings
    device: Any
    options: LearnOptions

    def run(self, progress: show.Progress) -> sm.Run:
        """Return the run folder and the device, as the library takes them."""
        return self.options.output.run(self.device, progress)

    def print_plan(self, names: Collection[str], *, soups: int = 1, objectives: int = 1) -> None:
        """Print how many steps will be taken and, in a dry run, how much memory they need.

        Args:
            names: what is learned for: the names of objectives.
            soups: the number of soups that are learned; a front counts as one.
            objectives: the number of objectives of each.

        Raises:
            UsageError: the ingredients cannot be kept where and how they are to be.
        """
        from soupmerge.soups.learn import stacks

        learning, k, n = self.options.learning, len(self.ingredients), len(self.images)
        epochs = self.settings.epochs_for(k, n, objectives)
        each = show.counted(epochs * self.settings.steps_per_epoch(n), "step")
        steps = f"{show.counted(soups, 'soup')}, {each} each" if soups > 1 else each
        what = f"{show.counted(k, 'ingredient')}, {show.counted(n, 'image')}, {steps}"
        show.note(f"{what}: {', '.join(names)}")
        plan = stacks.plan(
            self.ingredients, place=learning.place, store=learning.store, device=self.device
        )
        if self.options.output.dry_run or show.is_verbose():
            show.note(plan.describe())
