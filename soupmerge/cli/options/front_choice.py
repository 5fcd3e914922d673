"""Options: how to search a front for the soup to choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import soupmerge as sm
from soupmerge.cli import show
from soupmerge.cli.options.attack import Attack, attack
from soupmerge.cli.options.data import OptionalData, optional_data
from soupmerge.cli.options.machine import Machine, machine
from soupmerge.cli.options.network import Network, network
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.cli.options.soup_choice import SoupChoice
from soupmerge.errors import UsageError

CHOSEN = "chosen"
"""The folder in the run of a front that keeps the points judged while choosing."""


@dataclass(frozen=True)
class FrontChoice:
    """The images on which points of a front are judged, to choose one; none if none are judged.

    Raises:
        UsageError: there is a threat, but there are no images.
    """

    data: OptionalData
    attack: Attack
    network: Network
    machine: Machine

    def __post_init__(self) -> None:
        if self.data.ref is None and self.attack.threats:
            raise UsageError("nothing is judged", where="--threat", fix="give --data")

    def refined(
        self,
        runs: tuple[str, ...],
        choice: SoupChoice,
        refs: tuple[str, ...],
        weights_key: str | None,
    ) -> tuple[str, ...]:
        """Return *runs*, or the folder with the points of a front that were judged for *choice*.

        Raises:
            UsageError: there are several runs, or the run is not one of a front.
        """
        given = self.data.given
        if given is None:
            return runs
        from soupmerge.sources.refs import of_recipe
        from soupmerge.storage.names import FRONT
        from soupmerge.weights.recipe_files import read_front

        if len(runs) > 1 or not Path(runs[0], FRONT).exists():
            what, fix = "searches one front for the soup", "give one run of soupmerge front"
            raise UsageError(what, where="--data", fix=fix)
        front, device = read_front(runs[0]), self.machine.device()
        loaded = of_recipe(front.recipe, runs[0], refs=refs, weights_key=weights_key)
        given.warn_of_test("chooses the soup")
        threats = self.attack.threats or tuple(
            sm.Threat.parse(name) for name in front.objectives if name != "clean"
        )
        judging = self.attack.under(threats)
        net = self.network.make(like=loaded)
        benchmark = judging.benchmark(given.seen_by(net, loaded).images(), "val", self.machine)
        show.note(f"{len(benchmark.data):,} images of {given.ref} ({given.split}) choose")
        out = Path(runs[0], CHOSEN)
        with show.Progress() as progress:
            sm.refine(
                net,
                loaded,
                front,
                benchmark,
                metric=choice.metric,
                conditions=choice.conditions,
                knee=(choice.x, choice.y or benchmark.metrics[-1]) if choice.knee else None,
                run=sm.Run(out, device=device, progress=progress),
            )
        return (str(out),)


def front_choice(command: F) -> F:
    """Add the options that say how to search a front for the soup to choose."""
    return grouped(
        "front_choice", FrontChoice, optional_data("val"), attack, network, machine(256)
    )(command)
