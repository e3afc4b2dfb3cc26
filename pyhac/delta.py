# SPDX-License-Identifier: MIT
"""What a transaction changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast, overload

from . import _native
from .buffers import Buffer
from .errors import TransactionError


class Run(NamedTuple):
    """A stretch of changed bytes: ``data`` is what is at ``offset`` of ``area`` now."""

    area: str
    """The area's name."""
    offset: int
    """In bytes from the area's first byte."""
    data: bytes


class Delta(Sequence[Run]):
    """The runs of a transaction, ascending by area and offset, without overlap.

    Runs hold absolute bytes: words of 8 bytes that differ from the last epoch,
    merged where they touch (whole pages without a twin), so applying a delta
    twice does no harm.

    ``txn.delta`` is *lent*: its memory is the context's, until the next
    transaction begins there. Using it later raises TransactionError;
    :meth:`copy` keeps one. Runs that were taken out are copies and stay good.

    Source: struct hac_delta in hac.h.
    """

    __slots__ = ("_check", "_runs")

    def __init__(
        self, runs: Sequence[Run] | _Lent, check: Callable[[], None] = lambda: None
    ) -> None:
        self._runs = runs
        self._check = check

    def __len__(self) -> int:
        self._check()
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        self._check()
        found = self._runs[index]
        self._check()  # nothing began while the bytes were copied
        return found

    def __iter__(self) -> Iterator[Run]:
        for index in range(len(self)):
            yield self[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Delta):
            return NotImplemented
        return list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        try:
            return f"<Delta of {len(self)} runs, {self.nbytes} bytes>"
        except TransactionError:
            return "<Delta, expired>"

    @property
    def nbytes(self) -> int:
        """The bytes of all runs together."""
        self._check()
        if isinstance(self._runs, _Lent):
            return self._runs.nbytes
        return sum(len(run.data) for run in self._runs)

    def copy(self) -> Delta:
        """The same delta in memory of its own: good for ever."""
        return Delta(tuple(self))

    def apply(self, target: Mapping[str, Buffer]) -> None:
        """Write the runs into copies of the areas.

        Args:
            target: the name of each area in the delta, and a writable,
                contiguous buffer at least as long as the area was.

        Raises:
            ValueError: an area is missing from ``target``, or its buffer is
                too short or not writable. Then nothing has been written.
        """
        runs = list(self)
        views: dict[str, memoryview] = {}
        for run in runs:
            if run.area not in views:
                views[run.area] = _target_view(target, run.area)
            end = run.offset + len(run.data)
            if end > len(views[run.area]):
                raise ValueError(
                    f"target[{run.area!r}] has {len(views[run.area])} bytes, "
                    f"but the delta writes up to byte {end}"
                )
        for run in runs:
            views[run.area][run.offset : run.offset + len(run.data)] = run.data


def _target_view(target: Mapping[str, Buffer], area: str) -> memoryview:
    if area not in target:
        raise ValueError(f"the delta changes area {area!r}, which target lacks")
    view = memoryview(cast(bytearray, target[area]))
    if view.readonly or not view.c_contiguous:
        raise ValueError(f"target[{area!r}] must be writable and contiguous")
    return view.cast("B")


class _Lent(Sequence[Run]):
    """Runs in the context's memory; read on first use."""

    def __init__(self, delta: _native.CDelta, name_of: Callable[[int], str]) -> None:
        self._delta = delta
        self._name_of = name_of
        self._count, self.nbytes = _native.delta_counts(delta)
        self._places: list[tuple[str, int, int, int]] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        if self._places is None:
            self._places = self._read_places()
        if isinstance(index, slice):
            return [self._run(place) for place in self._places[index]]
        return self._run(self._places[index])

    def _run(self, place: tuple[str, int, int, int]) -> Run:
        area, offset, start, end = place
        return Run(area, offset, _native.delta_bytes(self._delta, start, end))

    def _read_places(self) -> list[tuple[str, int, int, int]]:
        places = []
        start = 0
        for offset, length, area in _native.delta_runs(self._delta):
            places.append((self._name_of(area), offset, start, start + length))
            start += length
        return places


def lent_delta(
    delta: _native.CDelta, name_of: Callable[[int], str], check: Callable[[], None]
) -> Delta:
    """The delta of the transaction that has just ended; ``check`` raises once
    its memory has been taken back."""
    check()
    return Delta(_Lent(delta, name_of), check)
