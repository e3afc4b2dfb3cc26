# SPDX-License-Identifier: MIT
"""Straight lines through measured costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

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


def _straight(points: Sequence[tuple[float, float]], fixed: float, slope: float) -> float:
    """R squared of a line."""
    x, y = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    off, around = ((y - fixed - slope * x) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    return float(1 - off / around) if around else 1.0


def steady(points: Sequence[tuple[float, float]]) -> Line:
    """Through (x, cost) by the medians of Theil and Sen: a few rows that were disturbed do not
    move it."""
    pairs = combinations(points, 2)
    slope = float(np.median([(b - a) / (y - x) for (x, a), (y, b) in pairs if x != y]))
    fixed = float(np.median([cost - slope * x for x, cost in points]))
    return Line(fixed, slope, _straight(points, fixed, slope))


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """Through (x, cost) by least squares, at least two different x."""
    terms = np.array([[1.0, x] for x, _ in points])
    (fixed, slope), straight = _solve(terms, [cost for _, cost in points])
    return Line(fixed, slope, straight)


def fit_plane(points: Sequence[tuple[float, float, float]]) -> Plane:
    """Through (x, z, cost) by least squares."""
    terms = np.array([[1.0, x, z] for x, z, _ in points])
    (fixed, a, b), straight = _solve(terms, [cost for *_, cost in points])
    return Plane(fixed, a, b, straight)
