# SPDX-License-Identifier: MIT
"""Table 2 of the paper, cell by cell, and the traces that it is counted from."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed")

from microbench import table2
from microbench.trace import PAGE, Trace
from microbench.workloads import WORKLOADS, record

KNOWN = {("leftheap", "delete", 5, "pages"), ("heap", "delete", 5, "pages")}
"""Where no layout of the textbook's structures gives the paper's number."""


def test_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table2.measure()
    with capsys.disabled():
        print("\n" + table2.show(rows))
    cells = table2.cells(rows)
    assert len(cells) == 4 * sum(len(load.operations) for load in WORKLOADS.values())
    wrong = {
        (cell["structure"], cell["operation"], cell["opt"], cell["what"])
        for cell in cells
        if not cell["equal"]
    }
    assert wrong <= KNOWN


def test_numbers_are_cut_off_and_not_rounded() -> None:
    assert table2.cut(4.999, "4") == "4"
    assert table2.cut(11.3999, "11.3") == "11.3"
    assert table2.cut(0.3, "0.3") == "0.3"
    assert table2.cut(8.5699, "8.56") == "8.56"
    assert table2.cut(2.0, "1.9") == "2.0"


@pytest.mark.parametrize("operation", ["insert", "delete"])
@pytest.mark.parametrize("name", list(WORKLOADS))
def test_a_trace_can_be_replayed(tmp_path: Path, name: str, operation: str) -> None:
    """Memory before, and the stores, make the memory after; saved and loaded again."""
    if operation not in WORKLOADS[name].operations:
        pytest.skip("not in table 2")
    n = 300
    trace = record(name, operation, n)
    assert len(trace.counts) == n
    assert len(trace.memory) % PAGE == 0
    trace.save(tmp_path / "trace")
    loaded = Trace.load(tmp_path / "trace")
    assert loaded.memory == trace.memory
    assert np.array_equal(loaded.counts, trace.counts)
    assert np.array_equal(loaded.stores, trace.stores)
    assert (trace.stores[:, 0] < len(trace.memory)).all()
    assert (trace.stores[:, 0] % 4 == 0).all()
    words = np.frombuffer(trace.memory, np.uint32).copy()
    words[trace.stores[:, 0] // 4] = trace.stores[:, 1]
    if operation == "insert" and WORKLOADS[name].finds is None:
        after = record(name, "delete", n).memory
        assert words.tobytes() == after.ljust(len(words) * 4, b"\0")[: len(words) * 4]


def test_counting() -> None:
    pages = [[0, 1], [0], [2, 0, 2]]
    stores = [[PAGE * page + 8, 7] for operation in pages for page in operation]
    trace = Trace(b"\0" * 3 * PAGE, np.array([2, 1, 3], np.uint32), np.array(stores, np.uint32))
    assert trace.writes() == 6
    assert [trace.transactions(opt) for opt in (1, 2, 5)] == [3, 2, 1]
    assert [trace.pages(opt) for opt in (1, 2, 5)] == [2 + 1 + 2, 2 + 2, 3]


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    record("list", "insert", 20).save(path)
    data = path.read_bytes()
    for wrong, message in (
        (b"", "no trace"),
        (b"X" + data[1:], "no trace"),
        (data[:8] + b"\2" + data[9:], "version 2"),
        (data[:100], "cut off"),
        (data[:-8], "cut off"),
        (data + b"\0\0\0\0", "goes on"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=message):
            Trace.load(path)
