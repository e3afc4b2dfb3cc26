# SPDX-License-Identifier: MIT
"""Which engine suits a program: what its transactions did, and what each engine would
take for that, by the model of pyhac/costs.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from . import _native
from .calibration import Manner, costs_of
from .costs import Costs
from .errors import EngineUnavailable, TransactionError
from .info import EngineInfo, Stats

# A page that an engine opens because it cannot carry a store out costs it what it costs
# the engine that opens all of them.
_OPENS_LIKE = {"emul": "pt", "emulxen": "ptxen"}
_CHOOSES, _COMPARES = "auto", "compare"


@dataclass(frozen=True, slots=True)
class Workload:
    """What the transactions of a context did, on average. Strays are not in it.

    PPT, WPP and CDA are the parameters of Lee et al., "Hypervisor-assisted application
    checkpointing", DSN 2011.
    """

    transactions: int
    strays: int
    """Epochs made of writes outside a transaction, the filling of new areas among them."""
    aborts: int
    areas: int
    cda_bytes: int
    """Bytes of all areas."""
    ppt: float
    """Unique pages written per transaction."""
    words: float
    """Changed words of 8 bytes per transaction."""
    delta_bytes: float
    """Per transaction."""
    seen: float | None
    """Single writes per transaction that the engine saw; None: it sees none."""
    fallbacks: float
    """Pages per transaction that it opened instead, at a store that it does not carry
    out: what else was written to them it did not see."""

    @property
    def counted(self) -> bool:
        """All writes were seen. Otherwise the changed words stand for what was not: there
        are at least so many writes if none is wider than a word, but vectors are, and
        some writes change nothing."""
        return self.seen is not None and not self.fallbacks

    @property
    def writes(self) -> float:
        """Single writes per transaction."""
        seen = (self.seen or 0.0) + self.fallbacks
        return seen if self.counted else max(seen, self.words)

    @property
    def wpp(self) -> float:
        """Writes per page."""
        return self.writes / self.ppt if self.ppt else 0.0

    @classmethod
    def of(cls, stats: Stats, sizes: Sequence[int]) -> Workload:
        """From what a context says of itself, and the sizes of its areas in bytes.

        Raises:
            TransactionError: no transaction has ended.
        """
        ended = stats.transactions - stats.strays
        if ended <= 0:
            raise TransactionError(
                "no transaction has ended yet: there is nothing to advise on; ask again after some"
            )
        return cls(
            transactions=ended,
            strays=stats.strays,
            aborts=stats.aborts,
            areas=len(sizes),
            cda_bytes=sum(sizes),
            ppt=stats.dirty_pages / ended,
            words=stats.changed_words / ended,
            delta_bytes=stats.delta_bytes / ended,
            seen=None if stats.writes is None else stats.writes / ended,
            fallbacks=stats.fallbacks / ended,
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What tracking with one engine would cost a transaction."""

    engine: str
    ns: float | None
    """Nanoseconds; None: not available here."""
    rough: bool
    """It depends on how many writes there were, and they were not counted."""
    kernel_writes: bool
    """``readinto`` and its like work without ``Transaction.will_write``."""
    reason: str
    """Why it is not available; empty if it is."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The engine that suits a context, and why. ``str()`` is for people."""

    workload: Workload
    used: str
    """The engine that the context uses ("compare,uffd" where areas differ)."""
    engine: str
    """The one that is expected to cost least."""
    estimates: tuple[Estimate, ...]
    """Of every engine: cheapest first, then those that are not available."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps()."""
        w = self.workload
        derived = {"writes": w.writes, "wpp": w.wpp, "counted": w.counted}
        return {**asdict(self), "workload": {**asdict(w), **derived}}

    def __str__(self) -> str:
        w = self.workload
        lines = [
            f"{'areas':14}{w.areas}, {bytes_text(w.cda_bytes)} in all",
            f"{'transactions':14}{w.transactions:,}",
            f"{'PPT':14}{w.ppt:.2f} pages a transaction",
            f"{'WPP':14}{wpp_text(w)} writes a page",
            f"{'changed':14}{w.words:.1f} words, {w.delta_bytes:.0f} bytes of delta a transaction",
            "",
        ]
        for estimate in self.estimates:
            lines.append(f"{estimate.engine:14}{estimate_text(estimate)}{self._mark(estimate)}")
        return "\n".join(lines)

    def _mark(self, estimate: Estimate) -> str:
        if estimate.ns is None:
            return f"  {estimate.reason}"
        marks = []
        if estimate.engine == self.engine:
            marks.append("expected to cost least")
        if estimate.engine in self.used.split(","):
            marks.append("used now")
        if not estimate.kernel_writes:
            marks.append("writes by the kernel have to be announced")
        return "  " + "; ".join(marks) if marks else ""


def bytes_text(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def wpp_text(workload: Workload) -> str:
    return f"{'' if workload.counted else 'about '}{workload.wpp:.2f}"


def estimate_text(estimate: Estimate) -> str:
    """Microseconds, as wide as any other."""
    if estimate.ns is None:
        return f"{'not here':>13}"
    return f"{'~' if estimate.rough else ' '}{estimate.ns / 1000:9.2f} µs"


def _estimate(info: EngineInfo, w: Workload, costs: Mapping[str, Costs]) -> Estimate:
    if not info.available:
        return Estimate(info.name, None, False, info.kernel_writes, info.reason)
    if info.name not in costs:
        reason = "compares with the twin, which this context does not have"
        return Estimate(info.name, None, False, info.kernel_writes, reason)
    seen = w.seen if info.words else None
    ns = costs[info.name].ns(w.cda_bytes, w.areas, w.ppt, w.words if seen is None else seen)
    like = costs.get(_OPENS_LIKE.get(info.name, ""))
    if seen is not None and like is not None:
        ns += like.page(w.cda_bytes) * w.fallbacks
    return Estimate(info.name, ns, info.words and seen is None, info.kernel_writes, "")


def checked_engines(names: Iterable[str] | None) -> list[EngineInfo]:
    """The engines of these names; all, the choice "auto" excepted, without names.

    Raises:
        ValueError: an engine that does not exist.
        EngineUnavailable: one that was named is not available here, or none at all is.
    """
    known = {info.name: info for info in _native.engines() if info.name != _CHOOSES}
    if names is None:
        if not any(info.available for info in known.values()):
            raise EngineUnavailable("no engine is available here")
        return list(known.values())
    found = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise ValueError(f"unknown engine {name!r}; there are: {', '.join(known)}")
        if not known[name].available:
            raise EngineUnavailable(f"engine {name!r} is not available: {known[name].reason}")
        found.append(known[name])
    return found


def advise(
    workload: Workload,
    used: str,
    manner: Manner,
    *,
    engines: Iterable[str] | None = None,
    anew: bool = False,
) -> Advice:
    """Which engine suits transactions like these.

    Args:
        workload: what they did.
        used: the engine that the context uses.
        manner: how the context was opened.
        engines: look at these only; None: at all.
        anew: measure the engines even if that has been done on this machine.

    Raises:
        ValueError, EngineUnavailable: as :func:`checked_engines`.
        Error: the engines could not be measured.
    """
    asked, every = checked_engines(engines), checked_engines(None)
    wanted = {
        info.name for info in asked if info.available and (manner.twin or info.name != _COMPARES)
    }
    needed = wanted | {_OPENS_LIKE[name] for name in wanted & _OPENS_LIKE.keys()}
    here = [info.name for info in every if info.available and info.name in needed]
    costs = costs_of(here, manner, anew=anew)
    estimates = [_estimate(info, workload, costs) for info in asked]
    estimates.sort(key=lambda found: (found.ns is None, found.ns or 0.0))
    if estimates[0].ns is None:
        raise EngineUnavailable(f"engine {estimates[0].engine!r}: {estimates[0].reason}")
    return Advice(workload, used, estimates[0].engine, tuple(estimates))
