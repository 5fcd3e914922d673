"""The images on which the batch-norm statistics of a soup are estimated anew."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import soupmerge as sm
from soupmerge.cli.options.attack import threats
from soupmerge.cli.options.data import OptionalData, optional_data
from soupmerge.cli.options.grouping import F, grouped
from soupmerge.errors import InputError, UsageError

if TYPE_CHECKING:
    from soupmerge.cli.options.machine import Machine


@dataclass(frozen=True)
class Calibrating:
    """Images, and the threat under which they are shown, if there is one."""

    data: OptionalData
    threats: tuple[sm.Threat, ...]

    def of(self, recipe: sm.Recipe, machine: Machine, where: str | None) -> sm.Calibration | None:
        """Return what the statistics of *recipe*'s soup are estimated on, if they are.

        *where* names the file of the recipe.

        Raises:
            UsageError: images are named, but nothing is estimated; or the other way round.
            InputError: the recipe says that statistics were estimated on others.
        """
        if recipe.buffers != "recalibrate":
            if self.data.ref or self.threats or self.data.limit:
                fix = "give --buffers recalibrate"
                raise UsageError("nothing is estimated on them", where="--data", fix=fix)
            return None
        found = self._calibration(machine)
        self._require_same(recipe, found, where)
        return found

    def _calibration(self, machine: Machine) -> sm.Calibration:
        if self.data.given is None:
            raise UsageError("needs images", where="--buffers recalibrate", fix="give --data")
        if len(self.threats) > 1:
            raise UsageError("give one at most", where="--threat with --buffers recalibrate")
        attack = sm.APGD.training(self.threats[0], steps=10) if self.threats else None
        return sm.Calibration(self.data.given.images(), attack, machine.batch_size, machine.seed)

    def _require_same(self, recipe: sm.Recipe, found: sm.Calibration, where: str | None) -> None:
        from soupmerge.storage.run_folder import essence

        told = found.describe()
        if recipe.calibration and essence(recipe.calibration) != essence(told):
            what = f"statistics were estimated on {recipe.calibration}, not on {told}"
            raise InputError(what, where=where, fix="give the same images and threat")


def noted(recipe: sm.Recipe, calibration: sm.Calibration) -> sm.Recipe:
    """Return *recipe* with what its statistics are estimated on, also in its ledger."""
    from soupmerge.weights import ledger

    entry = ledger.entry("recalibrate", calibration.data, ledger.TRAINED)
    seen = (*(known for known in recipe.seen if known != entry), entry)
    return dataclasses.replace(recipe, calibration=calibration.describe(), seen=seen)


def calibrating(command: F) -> F:
    """Add the options that name images to estimate statistics on."""
    return grouped("calibrating", Calibrating, optional_data("train"), threats)(command)
