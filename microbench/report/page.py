# SPDX-License-Identifier: MIT
"""The page: figures, statements and Table 2 in one file that needs nothing else."""

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from microbench.report import counted
from microbench.report.claims import PLACE_NAMES, Answer, Judged, Verdict, judge
from microbench.report.figures import DRAWINGS, Gap, Plot
from microbench.report.head import facts
from microbench.report.measured import Measured
from microbench.report.statements import CLAIMS

SIGNS = {Verdict.HOLDS: "✓", Verdict.DIFFERS: "≠", Verdict.UNKNOWN: "?"}


@dataclass(frozen=True)
class Section:
    """One of the paper's figures."""

    figure: str
    title: str
    plots: Sequence[Plot]
    gaps: Sequence[Gap]
    judged: Sequence[Judged]


def _whole(figure: str) -> str:
    """The figure that a drawing is part of."""
    return figure.rstrip("ab")


def sections(drawn: Sequence[Plot | Gap], judged: Sequence[Judged]) -> list[Section]:
    titles: dict[str, list[str]] = {}
    for drawing in DRAWINGS:
        titles.setdefault(_whole(drawing.figure), []).append(drawing.title)
    return [
        Section(
            figure,
            "; ".join(title),
            [d for d in drawn if isinstance(d, Plot) and _whole(d.figure) == figure],
            [d for d in drawn if isinstance(d, Gap) and _whole(d.figure) == figure],
            [j for j in judged if j.claim.figure == figure],
        )
        for figure, title in titles.items()
    ]


def _who(answer: Answer) -> str:
    where = PLACE_NAMES[answer.place]
    return f"{where}, for {answer.engine}" if answer.engine else where


def _tally(judged: Sequence[Judged]) -> Counter[Verdict]:
    """By statement, asked of the paper's own engines."""
    return Counter(a.finding.verdict for j in judged for a in j.answers if not a.engine)


def _cell(answers: Sequence[Answer], *places: str) -> Answer | None:
    return next((a for a in answers if a.place in places and not a.engine), None)


def render(results: Measured, drawn: Sequence[Plot | Gap], without: str = "") -> str:
    judged = judge(CLAIMS, results)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cells: dict[str, list[counted.Cell]] = {}
    for cell in counted.cells(results.table2):
        cells.setdefault(cell.work, []).append(cell)
    return environment.get_template("page.html.j2").render(
        facts=facts(results, without),
        tally=_tally(judged),
        verdicts=list(Verdict),
        judged=judged,
        sections=sections(drawn, judged),
        counted=[j for j in judged if j.claim.figure == "table 2"],
        elsewhere=[j for j in judged if j.claim.figure == "II.D"],
        cells=cells,
        table2=results.table2,
        skipped={place: results.skipped(place) for place in PLACE_NAMES if results.skipped(place)},
        documents=results.documents,
        place_names=PLACE_NAMES,
        signs=SIGNS,
        who=_who,
        answer_of=_cell,
        data=lambda svg: "data:image/svg+xml;base64," + b64encode(svg).decode(),
    )
