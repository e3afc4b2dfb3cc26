# SPDX-License-Identifier: MIT
"""How an engine looks: one colour and one marker in every figure."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Look:
    label: str
    color: str
    marker: str


# Colours of Okabe and Ito, which the colour-blind tell apart; markers tell them apart in print.
LOOKS = {
    "naive-pt": Look("naive PT", "#000000", "o"),
    "pt": Look("pt", "#e69f00", "s"),
    "emul": Look("emul", "#d55e00", "^"),
    "uffd": Look("uffd", "#56b4e9", "v"),
    "compare": Look("compare", "#8a8a8a", "X"),
    "ptxen": Look("ptxen", "#0072b2", "D"),
    "emulxen": Look("emulxen", "#cc79a7", "P"),
    "scanxen": Look("scanxen", "#009e73", "*"),
    "auto": Look("auto", "#7a5c00", "h"),
}
DASHES: Any = ("-", "--", ":", "-.")  # tell WPP or sizes of one engine apart

# In points; a figure as wide as this is readable on a phone and beside another on a screen.
WIDTH = 5.0
SETTINGS: Any = {
    "figure.facecolor": "white",
    "font.size": 11,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#1a1a1a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.hashsalt": "hac",  # the same rows make the same file
    "text.parse_math": False,
}


def look(engine: str) -> Look:
    return LOOKS.get(engine, Look(engine, "#444444", "."))


def order(engine: str) -> int:
    """Place in legends and tables."""
    names = list(LOOKS)
    return names.index(engine) if engine in names else len(names)
