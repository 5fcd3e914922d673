"""Pixels that are decoded when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class Pixels(ABC):
    """Pixels of N images, which take the place of a tensor in `Images`."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """``(C_in, H, W)``."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Hash of what is stored, found out without decoding an image."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images N."""

    @abstractmethod
    def __getitem__(self, indices: Tensor) -> Tensor:
        """Return the pixels ``(B, C_in, H, W)``, uint8, at *indices*.

        Raises:
            InputError: an image cannot be read or decoded, or has another size than the first.
        """

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Return one image, ``(C_in, H, W)`` uint8, whatever the sizes of the others.

        Raises:
            InputError: it cannot be read or decoded.
        """

    @abstractmethod
    def sizes(self, indices: Tensor) -> list[tuple[int, int]]:
        """Return height and width of the images at *indices* as stored, from their headers.

        Images whose headers cannot be read are left out.
        """

    @abstractmethod
    def expect(self, indices: Tensor, draw: object = None) -> None:
        """Prepare for being asked for *indices*, in this order.

        With *draw*, which keys their randomness, preprocessing may show random parts of images.
        """

    @abstractmethod
    def take(self, indices: Tensor) -> Pixels:
        """Return the pixels at *indices* as a set of their own."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what a fingerprint says of the pixels besides their digest."""

    @abstractmethod
    def marks(self) -> tuple[list[str], bool]:
        """Return a hash of each image, and whether these are all images; see `Sketch`."""
