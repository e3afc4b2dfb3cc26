# SPDX-License-Identifier: MIT
"""Numbers and lists in sentences."""

from collections.abc import Iterable, Sequence

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_STEPS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    digits = f"{value:.3g}"
    return f"{value:.3f}" if "e" in digits else digits


def amount(value: float, unit: str) -> str:
    """A cost with its unit."""
    if unit != "ns":
        if abs(value) >= 1e9:
            return f"{number(value / 1e9)} billion {unit}"
        if abs(value) >= 1e6:
            return f"{number(value / 1e6)} million {unit}"
        return f"{number(value)} {unit}"
    for step, name in _STEPS:
        if abs(value) >= step:
            return f"{number(value / step)} {name}"
    return f"{number(value)} ns"


def times(ratio: float) -> str:
    return f"{number(ratio)}×"


def size(count: float) -> str:
    for step, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= step:
            return f"{number(count / step)} {name}"
    return f"{number(count)} bytes"


def span(values: Sequence[float], show: object = number) -> str:
    """The least and the greatest."""
    assert callable(show)
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} to {high}"


def listed(words: Iterable[str], most: int = 6) -> str:
    """A list in prose; of a long one the beginning."""
    all_ = list(words)
    shown, rest = all_[:most], len(all_) - most
    if rest > 0:
        return f"{', '.join(shown)} and {rest} more"
    return ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + "".join(shown[-1:])
