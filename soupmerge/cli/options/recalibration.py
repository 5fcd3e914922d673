"""Options: the images on which the batch-norm statistics of a soup are re-estimated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import soupmerge as sm
from soupmerge.cli.options.attack import threats
from soupmerge.cli.options.data import OptionalData, optional_data
from soupmerge.cli.options.option_groups import F, grouped
from soupmerge.errors import InputError, UsageError

if TYPE_CHECKING:
    from soupmerge.cli.options.machine import Machine

RECALIBRATE = "--buffers recalibrate"


@dataclass(frozen=True)
class Recalibration:
    """Images to re-estimate statistics on, and the threat model under which they are attacked.

    Raises:
        UsageError: there are several threat models.
    """

    data: OptionalData
    threats: tuple[sm.Threat, ...]

    def __post_init__(self) -> None:
        if len(self.threats) > 1:
            raise UsageError("give at most one", where=f"--threat with {RECALIBRATE}")

    def calibration(
        self, recipe: sm.Recipe, loaded: sm.Ingredients, machine: Machine, where: str | None
    ) -> sm.Calibration | None:
        """Return what to re-estimate the statistics of the soup of *recipe* on; None if nothing.

        Args:
            recipe: the recipe of the soup.
            loaded: its ingredients; only attacks ask about the classes that they record.
            machine: batch size and seed.
            where: the file of the recipe, for messages.

        Raises:
            UsageError: images are given without --buffers recalibrate, or the other way round.
            InputError: according to the recipe, statistics were estimated on other images.
        """
        if recipe.buffers != "recalibrate":
            if self.data.ref or self.threats or self.data.limit:
                what = "statistics are not re-estimated"
                raise UsageError(what, where="--data", fix=f"give {RECALIBRATE}")
            return None
        data = self.data.given
        if data is None:
            raise UsageError("needs images", where=RECALIBRATE, fix="give --data")
        attack = sm.APGD.training(self.threats[0], steps=10) if self.threats else None
        images = data.seen_by(None, loaded if attack else ()).images()
        calibration = sm.Calibration(images, attack, machine.batch_size, machine.seed)
        _require_same(recipe, calibration, where)
        return calibration


def _require_same(recipe: sm.Recipe, calibration: sm.Calibration, where: str | None) -> None:
    from soupmerge.storage.run_folder import essence

    described = calibration.describe()
    if recipe.calibration and essence(recipe.calibration) != essence(described):
        what = f"statistics were estimated on {recipe.calibration}, not on {described}"
        raise InputError(what, where=where, fix="give the same images and threat")


def with_calibration(recipe: sm.Recipe, calibration: sm.Calibration) -> sm.Recipe:
    """Return *recipe* with the images of *calibration*, which also enter its ledger."""
    from soupmerge.weights import ledger

    entry = ledger.entry("recalibrate", calibration.data, ledger.TRAINED)
    seen = (*(other for other in recipe.seen if other != entry), entry)
    return dataclasses.replace(recipe, calibration=calibration.describe(), seen=seen)


def recalibration(command: F) -> F:
    """Add the options that name images to re-estimate statistics on."""
    return grouped("recalibration", Recalibration, optional_data("train"), threats)(command)
