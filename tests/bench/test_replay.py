# SPDX-License-Identifier: MIT
"""Replay of traces: every store is made, under each engine, and the memory put back."""

import struct
from pathlib import Path

import numpy as np
import pytest

from microbench.cells import NAIVE, Replay, Variant, listing
from microbench.measuring import Effort, Job, Round, interleaved, load, save
from microbench.program import Answer, Program, ProgramFailed, Unavailable
from microbench.sampling import choose, counts
from microbench.trace import PAGE, Trace
from microbench.tracking import Log

ENGINES = ("pt", "emul", "uffd", "compare", "auto")
PAGES, OPERATIONS = 5, 60


pytestmark = pytest.mark.usefixtures("built")


@pytest.fixture
def trace() -> Trace:
    """Random stores; each operation makes 1 to 40, each of another value, to words of 8 bytes
    that no other store of the operation goes to."""
    random = np.random.default_rng(7)
    counts = random.integers(1, 40, OPERATIONS)
    counts[11] = 500
    offsets = [8 * random.choice(PAGES * PAGE // 8, count, replace=False) for count in counts]
    stores = np.stack([np.concatenate(offsets), 1 + np.arange(sum(counts))], axis=1)
    memory = random.integers(1 << 31, 1 << 32, PAGES * PAGE // 4, np.uint32).tobytes()
    return Trace(memory, counts.astype(np.uint32), stores.astype(np.uint32))


def start(replay: Replay, engine: str) -> Program:
    try:
        return Program(replay, listing(engine))
    except Unavailable as reason:
        pytest.skip(str(reason))


def replay(trace: Trace, folder: Path, opt: int) -> Replay:
    trace.save(folder / "trace")
    return Replay("made", "up", opt, folder / "trace")


def words_of(trace: Trace, opt: int) -> list[int]:
    """Distinct words of 8 bytes that each transaction writes; all of them change."""
    ends = np.cumsum(trace.counts)[opt - 1 :: opt]
    parts = np.split(trace.stores[:, 0] // 8, ends[:-1])
    return [len(np.unique(part)) for part in parts]


@pytest.mark.parametrize("opt", [1, 5])
@pytest.mark.parametrize("engine", [NAIVE, *ENGINES])
def test_all_stores_are_made_in_each_replay(
    trace: Trace, tmp_path: Path, engine: str, opt: int
) -> None:
    transactions = trace.transactions(opt)
    with start(replay(trace, tmp_path, opt), engine) as program:
        for times in (1, 3):  # over the end: the memory is put back, the replay starts anew
            answer = program.stretch(times * transactions)
            if engine == NAIVE or engine in ("pt", "compare"):
                assert answer.pages == times * trace.pages(opt)
            assert answer.pages >= times * trace.pages(opt)
            # All words change each time, so each time the memory was what it was at first.
            if engine in ("compare", "auto"):
                assert answer.words == times * sum(words_of(trace, opt))
            else:
                assert answer.words < 0
            assert answer.writes == (times * trace.writes() if engine == "emul" else -1)


@pytest.mark.parametrize("engine", [NAIVE, *ENGINES])
def test_transactions_can_be_picked(trace: Trace, tmp_path: Path, engine: str) -> None:
    picked = [0, 11, 12, 40, 2, 59, 59]
    offsets = np.split(trace.stores[:, 0], np.cumsum(trace.counts)[:-1])
    with start(replay(trace, tmp_path, 1), engine) as program:
        answers = program.sample(picked, 3)
        assert program.stretch(OPERATIONS).pages >= trace.pages(1)
    for number, answer in zip(picked, answers, strict=True):
        pages = len(np.unique(offsets[number] // PAGE))
        assert answer.pages >= pages
        assert answer.ns > 0
        assert answer.copy_ns > 0
        if engine == "emul":
            assert answer.writes == trace.counts[number]
            assert answer.copy_bytes <= (16 + 8) * trace.counts[number]
        if engine == "compare":
            assert answer.words == len(offsets[number])
        if engine == NAIVE:
            assert (answer.pages, answer.copy_bytes) == (pages, pages * (4 + PAGE))


def test_the_last_transaction_may_be_shorter(trace: Trace, tmp_path: Path) -> None:
    with start(replay(trace, tmp_path, 7), NAIVE) as program:
        assert program.stretch(9).pages == trace.pages(7)
        with pytest.raises(ProgramFailed, match="9 transactions"):
            program.sample([9], 0)


def test_a_sample_stands_for_all(trace: Trace) -> None:
    writes, pages = counts(trace, 1)
    assert list(writes) == list(trace.counts)
    assert sum(pages) == trace.pages(1)
    rounds = choose(trace, 1, 10, 4)
    assert len(rounds) == 4
    for turn in rounds:
        assert sum(weight for _, weight in turn) == pytest.approx(1)
        assert len({number for number, _ in turn}) == len(turn)
        assert [weight for _, weight in turn] == [weight for _, weight in rounds[0]]
        assert (11, 1 / OPERATIONS) in turn  # the only one of its kind
        for known in (writes, pages):
            found = sum(weight * known[number] for number, weight in turn)
            assert found == pytest.approx(known.mean(), rel=0.1)
    assert len(set(rounds)) == 4


def test_all_transactions_are_a_sample(trace: Trace) -> None:
    (turn,) = choose(trace, 1, 10**6, 1)
    assert sorted(number for number, _ in turn) == list(range(OPERATIONS))


def test_rounds_of_a_trace(trace: Trace, tmp_path: Path) -> None:
    cell = replay(trace, tmp_path, 1)
    variants = (listing(NAIVE), listing("compare"), Variant("nosuch", "words", twin=True))
    job = Job("test", cell, variants, PAGES * PAGE, OPERATIONS, choose(trace, 1, 10**6, 4))
    save([job], tmp_path / "jobs")
    assert load(tmp_path / "jobs") == [job]
    log, ticks = Log(), list[None]()
    effort = Effort(rounds=4, round_ms=1, least=4, sampled=10, before=1)
    found = interleaved(job, effort, lambda: ticks.append(None), log)
    assert len(ticks) == 4
    assert len(log.failed) == 1
    assert "nosuch" in log.failed[0]["reason"]
    naive, compared = (found[variant] for variant in variants[:2])
    assert len(naive) == len(compared) == 4
    for one, other in zip(naive, compared, strict=True):
        assert isinstance(one, Round)
        assert one.transactions == OPERATIONS
        assert one.pages == pytest.approx(trace.pages(1) / OPERATIONS)
        assert other.words == pytest.approx(sum(words_of(trace, 1)) / OPERATIONS)


HEAD = struct.Struct("<8sIIII")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends too early"),
        (b"HACTRICK" + HEAD.pack(b"", 1, 8, 1, 0)[8:] + bytes(12), "no trace of version 1"),
        (HEAD.pack(b"HACTRACE", 2, 8, 1, 0) + bytes(12), "no trace of version 1"),
        (HEAD.pack(b"HACTRACE", 1, 8, 1, 9) + bytes(12), "no trace of version 1"),
        (HEAD.pack(b"HACTRACE", 1, 0, 1, 0) + bytes(4), "in an area of 0 bytes"),
        (HEAD.pack(b"HACTRACE", 1, 8, 0, 0) + bytes(8), "0 operations"),
        (HEAD.pack(b"HACTRACE", 1, 8, 1, 0) + bytes(7), "ends too early"),
        (HEAD.pack(b"HACTRACE", 1, 8, 2, 0) + bytes(12), "ends too early"),
        (HEAD.pack(b"HACTRACE", 1, 8, 1, 0) + bytes(16), "goes on after 1 operations"),
        (
            HEAD.pack(b"HACTRACE", 1, 8, 1, 0) + bytes(8) + struct.pack("<III", 1, 8, 0),
            "store 0 is at offset 8 of an area of 8 bytes",
        ),
        (
            HEAD.pack(b"HACTRACE", 1, 8, 1, 0) + bytes(8) + struct.pack("<III", 1, 2, 0),
            "store 0 is at offset 2",
        ),
    ],
)
def test_bad_traces_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes(data)
    for engine in (NAIVE, "compare"):
        with pytest.raises(ProgramFailed, match=reason):
            Program(Replay("made", "up", 1, path), listing(engine))


def test_a_trace_without_opt_is_refused(trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="--opt"):
        Program(replay(trace, tmp_path, 0), listing(NAIVE))


def test_one_by_one_with_a_copy(trace: Trace, tmp_path: Path) -> None:
    with start(replay(trace, tmp_path, 1), NAIVE) as program:
        answer = program.copy(2 * OPERATIONS)
    assert isinstance(answer, Answer)
    assert answer.pages == 2 * trace.pages(1)
    assert answer.copy_bytes == answer.pages * (4 + PAGE)
