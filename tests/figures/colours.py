"""How colours are seen: their light, and the contrast of two."""

from __future__ import annotations

from typing import Any

import numpy as np


def light(colour: str) -> Any:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2.2 defines it."""
    low, high = sorted(float(light(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (a, b))
    return high / low
