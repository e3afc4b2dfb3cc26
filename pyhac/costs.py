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
the factors depend on the size in ways of their own is ours: caches, TLB and the
kernel's tables are slower where there is more. The factors are measured on the machine
(pyhac/calibration.py), and interpolated between the sizes at which they were.

Not in it: what the program itself does, the journal and backups (the same under every
engine), and ``hac_next``, which saves part of base. Nor threads that run at the same
time, an image's drainer among them: each change of page tables interrupts their
processors, which ``compare`` does without and the others pay for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Sizes between which *page* and *change* are straight, over the logarithm of the size:
# few, so that noise at one size does not count for much.
KNOTS = (16 << 10, 256 << 10, 2 << 20, 8 << 20, 32 << 20)


class Sample(NamedTuple):
    """Nanoseconds that a transaction was measured to cost."""

    cda_bytes: int
    ppt: int
    wpp: int
    ns: float


@dataclass(frozen=True, slots=True)
class Costs:
    """The model of one engine; its factors in nanoseconds."""

    sizes: tuple[int, ...]
    """Bytes, ascending: where ``bases`` were measured."""
    bases: tuple[float, ...]
    pages: tuple[float, ...]
    """At KNOTS."""
    changes: tuple[float, ...]
    """At KNOTS."""
    area: float

    def base(self, cda_bytes: int) -> float:
        """Straight between the sizes, and on as it went last behind them."""
        if cda_bytes <= self.sizes[-1]:
            return float(np.interp(cda_bytes, self.sizes, self.bases))
        slope = (self.bases[-1] - self.bases[-2]) / (self.sizes[-1] - self.sizes[-2])
        return self.bases[-1] + max(0.0, slope) * (cda_bytes - self.sizes[-1])

    def page(self, cda_bytes: int) -> float:
        return float(_hats(cda_bytes) @ np.array(self.pages))

    def ns(self, cda_bytes: int, areas: int, ppt: float, changes: float) -> float:
        """Nanoseconds a transaction."""
        return (
            self.base(cda_bytes)
            + self.area * (areas - 1)
            + self.page(cda_bytes) * ppt
            + float(_hats(cda_bytes) @ np.array(self.changes)) * changes
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Costs:
        names = ("sizes", "bases", "pages", "changes")
        return cls(**{name: tuple(value[name]) for name in names}, area=value["area"])


def _hats(cda_bytes: int) -> NDArray[np.float64]:
    """How much each of KNOTS counts at a size."""
    at = np.interp(np.log(max(cda_bytes, 1)), np.log(KNOTS), range(len(KNOTS)))
    return np.maximum(0.0, 1.0 - np.abs(at - np.arange(len(KNOTS))))


def fit(samples: Sequence[Sample], area: float) -> Costs:
    """The factors that make the sum of squares of relative errors least. One that would
    be negative is 0: it is lost in noise."""
    sizes = sorted({sample.cda_bytes for sample in samples})
    # Behind the largest of these sizes nothing but base was measured.
    largest = max((s.cda_bytes for s in samples if s.ppt * s.wpp > 1), default=sizes[0])
    rows = []
    for sample in samples:
        base = [float(sample.cda_bytes == size) for size in sizes]
        hats = _hats(min(sample.cda_bytes, largest))
        factors = np.array([*base, *sample.ppt * hats, *sample.ppt * sample.wpp * hats])
        rows.append(factors / sample.ns)
    found = _least_squares(np.array(rows)).round(2)
    bases, pages, changes = np.split(found, [len(sizes), len(sizes) + len(KNOTS)])
    for factors in pages, changes:
        factors[:] = [_hats(min(knot, largest)) @ factors for knot in KNOTS]
    return Costs(
        tuple(sizes), tuple(bases.tolist()), tuple(pages.tolist()), tuple(changes.tolist()), area
    )


def _least_squares(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """The factors, none below 0, with which the terms come nearest to 1."""
    found = np.zeros(terms.shape[1])
    kept = np.flatnonzero(terms.any(axis=0))
    while True:
        factors = np.linalg.lstsq(terms[:, kept], np.ones(len(terms)), rcond=None)[0]
        if factors.min() >= 0:
            break
        kept = np.delete(kept, factors.argmin())
    found[kept] = factors
    return found
