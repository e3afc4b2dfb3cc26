# SPDX-License-Identifier: MIT
"""What tracking costs a transaction: the model of an engine, and fitting it.

Under every engine a transaction costs ::

    base(CDA) + area x (areas - 1) + page(CDA) x PPT + change(CDA) x changes

nanoseconds. *base* is what begin and end cost whatever was written: a comparison of
everything under ``compare``, a scan of page tables under ``uffd``. *page* is the fault of
a page's first write, closing it again, and comparing it. *changes* are single writes
for engines that see those, and changed words for the others, for which the second
write to a page is free, but each word that changed goes into the delta.

The form is that of Lee et al., "Hypervisor-assisted application checkpointing", DSN
2011: figure 6 (page tracking is linear in PPT, whatever WPP is), figure 7 (emulation is
linear in PPT x WPP) and section V.C (scanning is linear in PPT and in the area). That
the factors depend on the size of the area, too, is ours: caches, TLB and the kernel's
tables are slower where there is more. They are measured at a few sizes
(pyhac/calibration.py) and interpolated between them.

Not in it: what the program itself does, the journal and backups (the same under every
engine), more than one writing thread, and :func:`hac_next`, which saves part of base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Sample(NamedTuple):
    """Nanoseconds that a transaction was measured to cost."""

    ppt: int
    wpp: int
    ns: float


@dataclass(frozen=True, slots=True)
class Line:
    """The factors at one size of the area, in nanoseconds."""

    cda_bytes: int
    base: float
    page: float
    change: float


@dataclass(frozen=True, slots=True)
class Costs:
    """The model of one engine. ``lines`` ascend by size."""

    lines: tuple[Line, ...]
    area: float

    def page(self, cda_bytes: int) -> float:
        return self._between(cda_bytes, [line.page for line in self.lines])

    def ns(self, cda_bytes: int, areas: int, ppt: float, changes: float) -> float:
        """Nanoseconds a transaction."""
        change = self._between(cda_bytes, [line.change for line in self.lines])
        return (
            self._base(cda_bytes)
            + self.area * (areas - 1)
            + self.page(cda_bytes) * ppt
            + change * changes
        )

    def _base(self, cda_bytes: int) -> float:
        """Straight between the sizes, and on as it went last behind them."""
        sizes = [line.cda_bytes for line in self.lines]
        bases = [line.base for line in self.lines]
        if cda_bytes > sizes[-1] and len(sizes) > 1:
            slope = max(0.0, (bases[-1] - bases[-2]) / (sizes[-1] - sizes[-2]))
            return bases[-1] + slope * (cda_bytes - sizes[-1])
        return float(np.interp(cda_bytes, sizes, bases))

    def _between(self, cda_bytes: int, factors: Sequence[float]) -> float:
        """Caches and tables grow by factors, so sizes count by their logarithm."""
        sizes = [np.log(line.cda_bytes) for line in self.lines]
        return float(np.interp(np.log(max(cda_bytes, 1)), sizes, factors))

    def to_json(self) -> dict[str, Any]:
        lines = [[line.cda_bytes, line.base, line.page, line.change] for line in self.lines]
        return {"area": self.area, "lines": lines}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Costs:
        return cls(tuple(Line(*line) for line in value["lines"]), value["area"])


def fit(cda_bytes: int, samples: Sequence[Sample]) -> Line:
    """The factors that make the sum of squares of relative errors least. One that would
    be negative is 0: it is lost in noise."""
    terms = np.array([[1.0, sample.ppt, sample.ppt * sample.wpp] for sample in samples])
    cost = np.maximum([sample.ns for sample in samples], 1.0)
    kept = [0, 1, 2]
    while True:
        found = np.linalg.lstsq(terms[:, kept] / cost[:, None], np.ones(len(cost)), rcond=None)[0]
        if found.min() >= 0 or len(kept) == 1:
            break
        kept.pop(int(found.argmin()))
    factors = [0.0, 0.0, 0.0]
    for place, factor in zip(kept, found, strict=True):
        factors[place] = round(max(float(factor), 0.0), 2)
    return Line(cda_bytes, *factors)
