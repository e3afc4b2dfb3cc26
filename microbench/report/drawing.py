# SPDX-License-Identifier: MIT
"""The kinds of drawings: curves, bars, and a row of dots for each data structure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from itertools import zip_longest
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from microbench.report.measured import Row
from microbench.report.style import DASHES, WIDTH, look, order
from microbench.report.wording import amount, number

TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))
TICKS = ((2, (1.0, 2.0, 5.0)), (4, (1.0, 3.0)))  # where an axis has fewer decades than so many
INSTRUCTIONS = ((1e9, "billion instructions"), (1e6, "million instructions"))


def sheet(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def scale(totals: Sequence[float], unit: str) -> tuple[float, str]:
    """What totals are divided by, and the name of what comes out."""
    steps = TIMES if unit == "ns" else INSTRUCTIONS
    return next((step for step in steps if max(totals) >= step[0]), steps[-1])


def transactions(rows: Iterable[Row]) -> str:
    counts = {row.tcount for row in rows}
    return f"{number(counts.pop())} transactions" if len(counts) == 1 else "all transactions"


def legend(
    figure: Figure,
    engines: Iterable[str],
    dashes: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> None:
    """Engines in the first row, what dashes mean in the second."""
    line: Any = "-" if dashes else ""
    first = [
        Line2D(
            [],
            [],
            color=look(engine).color,
            marker=look(engine).marker,
            linestyle=line,
            label=(names or {}).get(engine, look(engine).label),
        )
        for engine in engines
    ]
    second = [
        Line2D([], [], color="#444444", linestyle=DASHES[i % len(DASHES)], label=text)
        for i, text in enumerate(dashes)
    ]
    if not second:
        columns = 4 if len(first) > 3 and not names else min(len(first), 2 if names else 3)
        figure.legend(handles=first, loc="outside upper center", ncols=columns)
        return
    # A legend is filled by columns.
    nothing = Line2D([], [], linestyle="", label="")
    pairs = zip_longest(first, second, fillvalue=nothing)
    handles = [handle for pair in pairs for handle in pair]
    columns = max(len(first), len(second))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.2)


def plain(axis: Axis) -> None:
    """Numbers on a logarithmic axis without powers: 0.1, 1, 10."""
    low, high = axis.get_view_interval()
    subs = next((s for decades, s in TICKS if high / low < 10**decades), (1.0,))
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def engines_of(rows: Iterable[Row]) -> list[str]:
    return sorted({row.engine for row in rows}, key=order)


def curves(
    rows: Sequence[Row],
    x: Callable[[Row], int],
    name: str,
    kind: Callable[[Row], int],
    label: Callable[[int], str],
    *,
    logarithmic: bool = False,
) -> Figure:
    """Totals over x: a line for each engine, and for each kind a dash of its own."""
    figure, axes = sheet(3.7)
    divisor, unit = scale([row.total for row in rows], rows[0].unit)
    kinds = sorted({kind(row) for row in rows})
    lines: dict[tuple[int, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        lines[order(row.engine), kind(row), row.engine].append(row)
    for (_, which, engine), group in sorted(lines.items()):
        group.sort(key=x)
        axes.errorbar(
            [x(row) for row in group],
            [row.total / divisor for row in group],
            yerr=[row.spread * row.tcount / divisor for row in group],
            color=look(engine).color,
            marker=look(engine).marker,
            linestyle=DASHES[kinds.index(which) % len(DASHES)],
            alpha=0.9,
        )
    axes.set_xlabel(name)
    axes.set_title(f"{unit} for {transactions(rows)}", loc="left", fontsize="medium")
    axes.set_xlim(left=0)
    if logarithmic:
        axes.set_yscale("log")
        axes.autoscale_view()
        plain(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    legend(figure, engines_of(rows), [label(each) for each in kinds])
    return figure


def bars(rows: Sequence[Row], what: str) -> Figure:
    """A bar for each row, with its number."""
    figure, axes = sheet(0.42 * len(rows) + 1.0)
    divisor, unit = scale([row.total for row in rows], rows[0].unit)
    ordered = sorted(rows, key=lambda row: order(row.engine), reverse=True)
    for i, row in enumerate(ordered):
        axes.barh(i, row.total / divisor, color=look(row.engine).color, height=0.7)
        axes.annotate(
            amount(row.total, row.unit).removesuffix(" instructions"),
            (row.total / divisor, i),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(ordered)), [look(row.engine).label for row in ordered])
    axes.set_xlabel(f"{unit} for {transactions(rows)}{what}")
    axes.margins(x=0.25)
    axes.grid(visible=False, axis="y")
    return figure


def dots(
    points: Mapping[str, Mapping[str, float]],
    label: str,
    *,
    marks: Sequence[float] = (),
    names: Mapping[str, str] | None = None,
) -> Figure:
    """A row for each work, a dot for each engine; `marks` are the paper's, as vertical lines.

    The axis is logarithmic: works are a thousand times apart, and so bars would have no foot.
    """
    works = sorted({work for values in points.values() for work in values}, reverse=True)
    figure, axes = sheet(0.27 * len(works) + 1.4)
    for mark in marks:
        axes.axvline(mark, color="#777777", linestyle=":", linewidth=1.2)
    for engine in sorted(points, key=order):
        values = points[engine]
        axes.plot(
            list(values.values()),
            [works.index(work) for work in values],
            color=look(engine).color,
            marker=look(engine).marker,
            linestyle="",
            alpha=0.9,
        )
    axes.set_xscale("log")
    axes.autoscale_view()
    plain(axes.xaxis)
    axes.set_yticks(range(len(works)), works)
    axes.set_ylim(-0.6, len(works) - 0.4)
    axes.set_xlabel(f"{label}\n(dotted: the paper's)" if marks else label)
    legend(figure, sorted(points, key=order), names=names)
    return figure
