# SPDX-License-Identifier: MIT
"""Straight lines through measured costs, by least squares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """cost = fixed + slope x; `straight` is R squared."""

    fixed: float
    slope: float
    straight: float

    def at(self, x: float) -> float:
        return self.fixed + self.slope * x

    def meets(self, other: "Line") -> float | None:
        """The x at which both cost the same; None for parallels."""
        if self.slope == other.slope:
            return None
        return (other.fixed - self.fixed) / (self.slope - other.slope)


@dataclass(frozen=True)
class Plane:
    """cost = fixed + a x + b z."""

    fixed: float
    a: float
    b: float
    straight: float


def _solve(terms: "np.ndarray", cost: Sequence[float]) -> tuple[list[float], float]:
    y = np.array(cost, dtype=float)
    found = np.linalg.lstsq(terms, y, rcond=None)[0]
    off, around = ((y - terms @ found) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    return [float(f) for f in found], float(1 - off / around) if around else 1.0


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """Through (x, cost), at least two different x."""
    terms = np.array([[1.0, x] for x, _ in points])
    (fixed, slope), straight = _solve(terms, [cost for _, cost in points])
    return Line(fixed, slope, straight)


def fit_plane(points: Sequence[tuple[float, float, float]]) -> Plane:
    """Through (x, z, cost)."""
    terms = np.array([[1.0, x, z] for x, z, _ in points])
    (fixed, a, b), straight = _solve(terms, [cost for *_, cost in points])
    return Plane(fixed, a, b, straight)
