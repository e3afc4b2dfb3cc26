# SPDX-License-Identifier: MIT
"""The same figures, computed by pandas from the same flights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay import claim, open_image
from table import FIGURES, GROUPS, UNKNOWN, Ints

import pyhac


@dataclass(frozen=True)
class Difference:
    """A figure in the image that is not the one that pandas found."""

    group: str
    name: str
    figure: str
    image: int
    pandas: int


def expected(flights: Any, group: str) -> Any:
    """One row for each name of the group, one column for each figure."""
    table = flights.assign(
        **{group: flights[group].fillna(UNKNOWN)},
        flights=1,
        cancelled=flights["dep_time"].isna(),
    )
    return table.groupby(group)[list(FIGURES)].sum().astype("int64")


def epoch_of(image: Path) -> int:
    """The last epoch that the image holds; 0 while it cannot be read."""
    try:
        with open_image(image, readonly=True) as ctx:
            return ctx.epoch
    except (OSError, pyhac.Error):
        return 0


def compare(image: Path, flights: Any, names: list[list[str]], sizes: Ints) -> list[Difference]:
    """Every figure of the image against pandas."""
    differences = []
    with open_image(image, readonly=True) as ctx:
        figures, cursor = claim(ctx, sizes)
        if cursor[0] != len(flights):
            differences.append(Difference("cursor", "", "", int(cursor[0]), len(flights)))
        for group, found, members in zip(GROUPS, figures, names, strict=True):
            right = expected(flights, group).reindex(members).to_numpy()
            for row, column in zip(*(found != right).nonzero(), strict=True):
                differences.append(
                    Difference(
                        group,
                        members[row],
                        FIGURES[column],
                        int(found[row, column]),
                        int(right[row, column]),
                    )
                )
    return differences
