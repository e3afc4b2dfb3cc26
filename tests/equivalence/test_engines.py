# SPDX-License-Identifier: MIT
"""Random programs under every engine, against a model in plain Python.

HAC_TEST_PROFILE says how many: quick (15 s), default (a minute), long, or emulated
(a tenth, for tests/xen); HAC_TEST_ENGINES under which engines. Runs are the same
each time unless HAC_TEST_SEED is set.
"""

from __future__ import annotations

import os
from contextlib import suppress

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, note, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

import pyhac

CHOSEN = os.environ.get("HAC_TEST_ENGINES", "").split()
ENGINES = [e for e in pyhac.engines() if e.available and (not CHOSEN or e.name in CHOSEN)]
PROFILES = {"quick": (50, 40), "default": (160, 50), "long": (3000, 80), "emulated": (16, 50)}
EXAMPLES, STEPS = PROFILES[os.environ.get("HAC_TEST_PROFILE", "default")]
SEED = os.environ.get("HAC_TEST_SEED")
RECORD = np.dtype([("open", "<i4"), ("price", "<f8"), ("flag", "u1")])
PAGE = 4096


class Doom(Exception):
    """What a test raises in a transaction."""


class Area:
    """An area, and plain copies of it: as it must be, as the last epoch left it,
    and what the deltas alone make of it."""

    def __init__(self, array: NDArray[np.uint8], adopted: bool = False) -> None:
        self.array = array
        self.adopted = adopted
        self.now = bytearray(array.tobytes())
        self.ended = bytearray(len(array))
        self.copy = bytearray(len(array))
        self.written: set[int] = set()  # bytes' pages since the last harvest
        self.fresh = True  # made or grown since the last epoch

    @property
    def address(self) -> int:
        return int(self.array.ctypes.data)

    def pages(self, start: int, end: int) -> range:
        return range((self.address + start) // PAGE, (self.address + end - 1) // PAGE + 1)

    def wrote(self, start: int, data: bytes) -> None:
        if data:
            self.now[start : start + len(data)] = data
            self.written.update(self.pages(start, start + len(data)))

    def grow(self, array: NDArray[np.uint8]) -> None:
        more = bytes(len(array) - len(self.array))
        if not more:
            return
        start = len(self.array)
        self.array = array
        for copy in (self.now, self.ended, self.copy):
            copy += more
        self.written.update(self.pages(start, len(array)))
        self.fresh = True

    def words(self) -> list[tuple[int, bytes]]:
        """What a delta of words must hold."""
        size = len(self.now)
        room = -size % 8
        before = np.frombuffer(bytes(self.ended) + bytes(room), "<u8")
        after = np.frombuffer(bytes(self.now) + bytes(room), "<u8")
        changed = np.flatnonzero(before != after)
        if not len(changed):
            return []
        runs = np.split(changed, np.flatnonzero(np.diff(changed) != 1) + 1)
        return [
            (int(run[0]) * 8, bytes(self.now[int(run[0]) * 8 : (int(run[-1]) + 1) * 8]))
            for run in runs
        ]

    def is_edge(self, page: int) -> bool:
        """Is it a partial page of adopted memory, which is compared?"""
        end = self.address + len(self.array)
        return self.adopted and (page * PAGE < self.address or (page + 1) * PAGE > end)

    def has_strays(self, twin: bool) -> bool:
        seen = not twin and any(not self.is_edge(page) for page in self.written)
        return self.fresh or self.now != self.ended or seen


@st.composite
def stretches(draw: st.DrawFn) -> tuple[float, int]:
    """Where in an area, as a part of it, and how many bytes."""
    length = draw(st.sampled_from([1, 2, 3, 8, 9, 64, 200, 4096, 5000, 30000]))
    return draw(st.floats(0, 1)), length


places = st.floats(0, 1)
values = st.integers(0, 2**64 - 1)


class Programs(RuleBasedStateMachine):
    engine = "auto"
    twin = True

    @initialize(
        small=st.integers(1, 300),
        large=st.integers(130_000, 200_000),
        odd=st.integers(1, PAGE - 1),
        adopted=st.integers(1, 30_000),
    )
    def open(self, small: int, large: int, odd: int, adopted: int) -> None:
        self.ctx = pyhac.open(engine=self.engine, twin=self.twin)
        self.areas: dict[str, Area] = {}
        self.made = 0
        self.epoch = 0
        self.txn: pyhac.Transaction | None = None
        self.inner: list[pyhac.Transaction] = []
        self.doomed = False
        self.dropped = False
        self.make("small", small, 0)
        self.make("large", large, 0)
        self.make("grows", 1000, 100_000)
        self.adopt("adopted", adopted, odd)

    def make(self, kind: str, size: int, capacity: int) -> None:
        name = f"{kind} {self.made}"
        self.made += 1
        self.areas[name] = Area(
            self.ctx.array(name, size, "u1", capacity=capacity or None),
        )

    def adopt(self, kind: str, size: int, odd: int) -> None:
        name = f"{kind} {self.made}"
        self.made += 1
        memory = np.zeros(size + 2 * PAGE, "u1")
        start = -memory.ctypes.data % PAGE + odd
        array = memory[start : start + size]
        array[:] = np.arange(size, dtype="u4").astype("u1")
        self.ctx.adopt(name, array)
        self.areas[name] = Area(array, adopted=True)

    def pick(self, place: float) -> Area:
        return list(self.areas.values())[min(int(place * len(self.areas)), len(self.areas) - 1)]

    # -- writes ----------------------------------------------------------------

    @rule(area=places, at=places, value=values)
    def write_byte(self, area: float, at: float, value: int) -> None:
        a = self.pick(area)
        i = int(at * (len(a.array) - 1))
        a.array[i] = value & 255
        a.wrote(i, bytes([value & 255]))

    @rule(area=places, stretch=stretches(), value=values)
    def write_slice(self, area: float, stretch: tuple[float, int], value: int) -> None:
        a = self.pick(area)
        length = min(stretch[1], len(a.array))
        at = int(stretch[0] * (len(a.array) - length))
        data = np.random.default_rng(value).bytes(length)
        a.array[at : at + length] = np.frombuffer(data, "u1")
        a.wrote(at, data)

    @rule(area=places, page=places, back=st.integers(1, 7), value=values)
    def write_across_pages(self, area: float, page: float, back: int, value: int) -> None:
        a = self.pick(area)
        first = -a.address % PAGE
        count = (len(a.array) - first - 8) // PAGE
        if count < 1:
            return
        at = first + (1 + int(page * (count - 1))) * PAGE - back
        a.array[at : at + 8].view("<u8")[0] = value
        a.wrote(at, value.to_bytes(8, "little"))

    @rule(area=places, at=places, kind=st.sampled_from(["<u2", "<i4", "<f4", "<f8"]), value=values)
    def write_scalar(self, area: float, at: float, kind: str, value: int) -> None:
        a = self.pick(area)
        dtype = np.dtype(kind)
        if len(a.array) < dtype.itemsize:
            return
        i = int(at * (len(a.array) - dtype.itemsize))
        scalar = np.frombuffer(value.to_bytes(8, "little")[: dtype.itemsize], dtype)
        a.array[i : i + dtype.itemsize].view(dtype)[0] = scalar[0]
        stored = a.array[i : i + dtype.itemsize].tobytes()
        if kind != "<f4":  # signalling NaNs are quieted on the way
            assert stored == scalar.tobytes() or "f" in kind
        a.wrote(i, stored)

    @rule(area=places, value=values, count=st.integers(1, 50))
    def write_fancy(self, area: float, value: int, count: int) -> None:
        a = self.pick(area)
        chosen = np.unique(np.random.default_rng(value).integers(0, len(a.array), count))
        a.array[chosen] ^= 0xA5
        for i in chosen.tolist():
            a.wrote(i, bytes([a.now[i] ^ 0xA5]))

    @rule(area=places, at=places, value=st.integers(0, 2**31 - 1))
    def write_record(self, area: float, at: float, value: int) -> None:
        a = self.pick(area)
        records = a.array[: len(a.array) // RECORD.itemsize * RECORD.itemsize].view(RECORD)
        if not len(records):
            return
        i = int(at * (len(records) - 1))
        records[i]["price"] = value / 8
        records["flag"][i] = value & 1
        a.wrote(i * RECORD.itemsize + 4, np.float64(value / 8).tobytes())
        a.wrote(i * RECORD.itemsize + 12, bytes([value & 1]))

    @rule(area=places, stretch=stretches())
    def write_the_same(self, area: float, stretch: tuple[float, int]) -> None:
        a = self.pick(area)
        length = min(stretch[1], len(a.array))
        at = int(stretch[0] * (len(a.array) - length))
        a.array.data[at : at + length] = bytes(a.now[at : at + length])
        a.wrote(at, bytes(a.now[at : at + length]))

    @precondition(lambda self: self.txn is not None)
    @rule(area=places, stretch=stretches(), value=values)
    def write_by_kernel(self, area: float, stretch: tuple[float, int], value: int) -> None:
        assert self.txn is not None
        a = self.pick(area)
        length = min(stretch[1], len(a.array))
        at = int(stretch[0] * (len(a.array) - length))
        data = np.random.default_rng(value).bytes(length)
        view = a.array.data[at : at + length]
        self.txn.will_write(view)
        reader, writer = os.pipe()
        done = 0
        while done < length:  # a pipe holds 64 KiB
            part = data[done : done + 16384]
            os.write(writer, part)
            done += os.readv(reader, [view[done : done + len(part)]])
        os.close(reader)
        os.close(writer)
        a.wrote(at, data)

    # -- areas -----------------------------------------------------------------

    @rule(more=st.integers(0, 9000))
    def grow(self, more: int) -> None:
        for name, a in self.areas.items():
            if name.startswith("grows"):
                a.grow(self.ctx.resize(name, min(len(a.array) + more, 100_000)))

    @precondition(lambda self: self.txn is None and self.twin)
    @rule(size=st.integers(1, 20_000), odd=st.integers(0, 4095), area=places)
    def drop_and_make(self, size: int, odd: int, area: float) -> None:
        name = next(name for name, a in self.areas.items() if a is self.pick(area))
        kind = name.split()[0]
        if self.areas[name].fresh:
            return
        assert self.areas[name].array.tobytes() == bytes(self.areas[name].now)
        self.ctx.drop(name)
        del self.areas[name]
        self.dropped = True
        if kind == "adopted":
            self.adopt(kind, size, odd)
        else:
            self.make(kind, 1000 if kind == "grows" else size, 100_000 if kind == "grows" else 0)

    # -- transactions ----------------------------------------------------------

    @precondition(lambda self: self.txn is None)
    @rule()
    def begin(self) -> None:
        strays = self.dropped or any(a.has_strays(self.twin) for a in self.areas.values())
        self.txn = self.ctx.transaction()
        self.txn.__enter__()
        self.doomed = False
        if strays:
            self.ended()
            for a in self.areas.values():
                a.copy[:] = a.ended
        for a in self.areas.values():
            a.written.clear()
        assert self.ctx.epoch == self.epoch

    @precondition(lambda self: self.txn is not None and len(self.inner) < 3)
    @rule()
    def join(self) -> None:
        inner = self.ctx.transaction()
        assert inner.__enter__() is self.txn
        self.inner.append(inner)

    @precondition(lambda self: self.inner)
    @rule(fails=st.booleans())
    def leave_joined(self, fails: bool) -> None:
        if fails and not self.twin:
            fails = False
        failure = Doom() if fails else None
        inner = self.inner.pop()
        assert not inner.__exit__(type(failure) if failure else None, failure, None)
        self.doomed |= fails

    @precondition(lambda self: self.txn is not None and not self.inner)
    @rule()
    def end(self) -> None:
        txn, self.txn = self.txn, None
        assert txn is not None
        if self.doomed:
            with pytest.raises(pyhac.TransactionError):
                txn.__exit__(None, None, None)
            self.put_back()
            return
        txn.__exit__(None, None, None)
        self.check_delta(txn.delta)
        self.ended()
        for a in self.areas.values():
            a.written.clear()
        assert txn.epoch == self.epoch == self.ctx.epoch

    @precondition(lambda self: self.txn is not None and self.twin)
    @rule(failure=st.sampled_from([pyhac.Abort, Doom, KeyboardInterrupt]))
    def abort(self, failure: type[BaseException]) -> None:
        while self.inner:
            with suppress(pyhac.TransactionError):
                self.inner.pop().__exit__(None, None, None)
        txn, self.txn = self.txn, None
        assert txn is not None
        assert bool(txn.__exit__(failure, failure(), None)) == (failure is pyhac.Abort)
        self.put_back()

    def put_back(self) -> None:
        for a in self.areas.values():
            a.now[:] = a.ended
        assert self.ctx.epoch == self.epoch

    def ended(self) -> None:
        for a in self.areas.values():
            a.ended[:] = a.now
            a.fresh = False
        self.dropped = False
        self.epoch += 1

    def check_delta(self, delta: pyhac.Delta) -> None:
        runs = list(delta)
        if self.twin:
            wanted = [(name, at, data) for name, a in self.areas.items() for at, data in a.words()]
            found = [(run.area, run.offset, run.data) for run in runs]
            if found != wanted:
                note(f"found  {[(n, at, len(d)) for n, at, d in found]}")
                note(f"wanted {[(n, at, len(d)) for n, at, d in wanted]}")
            assert found == wanted
        for run in runs:
            a = self.areas[run.area]
            if not a.fresh and not self.twin:
                slack = 7 if a.address % 8 else 0  # a word may lie in two pages
                start, end = run.offset + slack, run.offset + len(run.data) - slack
                pages = set(a.pages(start, end)) if start < end else set()
                assert pages <= a.written, f"{run.area}: a page that was not written"
        delta.apply({name: a.copy for name, a in self.areas.items()})
        for name, a in self.areas.items():
            assert a.copy == a.now, f"{name}: the deltas give other bytes"

    @invariant()
    def memory_is_the_model(self) -> None:
        for name, a in getattr(self, "areas", {}).items():
            if a.array.tobytes() != a.now:
                raise AssertionError(f"{name}: its bytes are not the model's")

    def teardown(self) -> None:
        if not hasattr(self, "ctx"):
            return
        with suppress(pyhac.Error):
            self.ctx.close()
        if self.txn is not None and self.twin:
            self.put_back_closed()
        self.areas.clear()

    def put_back_closed(self) -> None:
        for name, a in self.areas.items():
            assert a.array.tobytes() == a.ended, f"{name}: closing did not abort"


def run_programs(engine: str, twin: bool) -> None:
    class Machine(Programs):
        pass

    Machine.engine = engine
    Machine.twin = twin
    run_state_machine_as_test(
        seed(int(SEED))(Machine) if SEED is not None else Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=SEED is None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("engine", [engine.name for engine in ENGINES])
def test_with_twin(engine: str) -> None:
    run_programs(engine, twin=True)


@pytest.mark.parametrize("engine", [engine.name for engine in ENGINES if engine.name != "compare"])
def test_without_twin(engine: str) -> None:
    if engine == "auto" and len(ENGINES) == 2:
        pytest.skip("only compare works here, and it needs a twin")
    run_programs(engine, twin=False)


def test_compare_needs_a_twin() -> None:
    with pytest.raises(ValueError, match="twin"):
        pyhac.open(engine="compare", twin=False)
