# SPDX-License-Identifier: MIT
"""Arrays and buffers: shapes, types, growth, init, views."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

import pyhac
from pyhac.layout import Rows, checked_dtype, parse, rows_of

if TYPE_CHECKING:
    from tests.conftest import Opener

ORDER = np.dtype([("id", "<u4"), ("open", "<i8"), ("price", "<f8", (2,)), ("tag", "S5")])
PADDED = np.dtype(
    {"names": ["a", "b"], "formats": ["u1", "<i4"], "offsets": [3, 8], "itemsize": 24}
)
NESTED = np.dtype([("head", PADDED), ("tail", "<M8[ns]", (3,)), ("text", "<U7")])


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (7, "<i8"),
        ((), "<f8"),
        ((3, 4), "<f4"),
        ((2, 3, 4), "u1"),
        ([5, 2], "<c16"),
        (np.int64(6), ">i2"),
        (4, ORDER),
        (4, PADDED),
        ((2, 2), NESTED),
        (3, "S9"),
        (3, "?"),
        (3, np.dtype(("<i4", (2, 2)))),
        ((), np.dtype(("<i4", (2,)))),
        (3, "<m8[us]"),
        (3, "V6"),
    ],
)
def test_arrays_are_as_numpy_makes_them(
    ctx: pyhac.Context, shape: tuple[int, ...], dtype: str
) -> None:
    a = ctx.array("a", shape, dtype)
    expected = np.zeros(shape, dtype)
    assert a.shape == expected.shape
    assert a.dtype == expected.dtype
    assert a.tobytes() == bytes(expected.nbytes)
    assert a.flags.c_contiguous
    assert a.flags.writeable
    assert a.ctypes.data % 4096 == 0
    info = ctx.areas["a"]
    assert info.size == expected.nbytes
    rows = parse(info.type)
    assert rows is not None
    assert (rows.shape(info.size), rows.dtype) == (a.shape, a.dtype)


def test_default_dtype_is_numpys(ctx: pyhac.Context) -> None:
    assert ctx.array("a", 3).dtype == np.float64


@pytest.mark.parametrize(
    ("dtype", "field"),
    [
        ("O", "dtype object"),
        ([("a", "<i4"), ("b", "O")], "field 'b'"),
        ([("a", [("x", "<i4"), ("y", "O", (2,))])], "field 'a.y'"),
    ],
)
def test_objects_are_refused(ctx: pyhac.Context, dtype: object, field: str) -> None:
    with pytest.raises(TypeError, match=field):
        ctx.array("a", 3, dtype)  # type: ignore[arg-type]
    assert not ctx.areas


@pytest.mark.parametrize("shape", [0, -1, (3, 0), (-2, 3)])
def test_empty_shapes_are_refused(ctx: pyhac.Context, shape: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ctx.array("a", shape)


@pytest.mark.parametrize("shape", ["3", 2.5, (2, 1.5)])
def test_shapes_are_whole_numbers(ctx: pyhac.Context, shape: int) -> None:
    with pytest.raises(TypeError):
        ctx.array("a", shape)


def test_dtypes_without_size_are_refused(ctx: pyhac.Context) -> None:
    with pytest.raises(ValueError, match="no size"):
        ctx.array("a", 3, "S")


def test_no_image_to_take_the_shape_from(ctx: pyhac.Context) -> None:
    with pytest.raises(ValueError, match="give its shape"):
        ctx.array("a")


@pytest.mark.parametrize("dtype", ["<i4", ORDER, PADDED, NESTED, "S3", "<U2", "?", ">f8"])
@pytest.mark.parametrize("shape", [(), (3,), (3, 2, 5)])
def test_type_strings_come_back(dtype: str, shape: tuple[int, ...]) -> None:
    rows, _ = rows_of(checked_dtype(dtype), shape)
    assert parse(str(rows)) == rows
    assert parse(str(rows)).nbytes == rows.nbytes  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["bytes", "", "<i4", "<i4[3]", "what[:]", "{1[:]", "<i4[:,x]"])
def test_other_type_strings_are_no_arrays(text: str) -> None:
    assert parse(text) is None


def test_rows_without_dimensions() -> None:
    assert str(Rows(np.dtype("<i4"), None)) == "<i4[]"
    assert Rows(np.dtype("<i4"), None).shape(4) == ()


def test_init_runs_once_and_needs_no_transaction(opened: Opener) -> None:
    ctx = opened(strict=True)
    a = ctx.array("a", 4, "<i8", init=lambda new: new.fill(5))
    with ctx.transaction() as txn:
        a[0] = 1
    assert a.tolist() == [1, 5, 5, 5]
    assert len(txn.delta) == 1


def test_init_that_fails_drops_the_area(ctx: pyhac.Context) -> None:
    def init(new: NDArray[np.int64]) -> None:
        new[0] = 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ctx.array("a", 4, "<i8", init=init)
    assert "a" not in ctx.areas
    a = ctx.array("a", 4, "<i8")
    assert not a.any()
    with ctx.transaction():
        a[0] = 2
    with pytest.raises(TypeError, match="init"):
        ctx.array("b", 4, init=3)  # type: ignore[arg-type]


def test_init_is_not_for_transactions(ctx: pyhac.Context) -> None:
    with ctx.transaction():
        with pytest.raises(pyhac.TransactionError, match="before or after"):
            ctx.array("a", 4, init=lambda new: new.fill(1))
        b = ctx.array("b", 4)
        b[0] = 1
    assert list(ctx.areas) == ["b"]
    assert b[0] == 1


def test_buffers(ctx: pyhac.Context) -> None:
    b = ctx.buffer("b", 100, init=lambda new: new.__setitem__(slice(0, 3), b"abc"))
    assert isinstance(b, memoryview)
    assert (len(b), b.readonly, b.format) == (100, False, "B")
    with ctx.transaction() as txn:
        b[3:5] = b"de"
    assert bytes(b[:6]) == b"abcde\0"
    assert [(run.area, run.offset) for run in txn.delta] == [("b", 0)]
    with pytest.raises(ValueError, match="size"):
        ctx.buffer("c", 0)
    with pytest.raises(TypeError, match="size"):
        ctx.buffer("c", "10")  # type: ignore[arg-type]


def test_growing_does_not_move(opened: Opener, engine: str) -> None:
    ctx = opened(engine=engine)
    a = ctx.array("a", (10, 3), "<i4", capacity=100_000)
    with ctx.transaction():
        a[9] = 7
    grown = ctx.resize("a", 50_000)
    assert grown.shape == (50_000, 3)
    assert grown.ctypes.data == a.ctypes.data
    assert grown[9].tolist() == [7, 7, 7]
    assert not grown[10:].any()
    with ctx.transaction() as txn:
        grown[40_000] = 5
    assert [run.offset // 12 for run in txn.delta] == [40_000]
    with ctx.transaction():
        grown[40_000] = 6
        raise pyhac.Abort
    assert grown[40_000].tolist() == [5, 5, 5]
    assert a.shape == (10, 3)


def test_growing_is_not_undone_by_abort(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 10, "<i4", capacity=10_000)
    with ctx.transaction():
        a[0] = 1
        grown = ctx.resize("a", 5_000)
        grown[4_000] = 1
        raise pyhac.Abort
    assert ctx.areas["a"].size == 20_000
    assert not grown.any()


def test_growing_has_limits(ctx: pyhac.Context) -> None:
    ctx.array("a", 10, "<i4", capacity=20)
    ctx.array("one", (), "<i4")
    for rows in (9, 10**9):
        with pytest.raises(ValueError, match=r"."):
            ctx.resize("a", rows)
    with pytest.raises(ValueError, match="no area 'x'"):
        ctx.resize("x", 10)
    with pytest.raises(ValueError, match="single item"):
        ctx.resize("one", 10)
    with pytest.raises(ValueError, match="capacity"):
        ctx.array("b", 10, capacity=9)
    assert ctx.areas["a"].size == 40


def test_buffers_grow_in_bytes(ctx: pyhac.Context) -> None:
    ctx.buffer("b", 10, capacity=10_000)
    grown = ctx.resize("b", 9_000)
    assert grown.dtype == np.uint8
    assert grown.shape == (9_000,)


def test_names(ctx: pyhac.Context) -> None:
    for name in ("ü", "x" * 255, "a b/c"):
        ctx.array(name, 1)
    for name in ("", "x" * 256, "a\0b"):
        with pytest.raises(ValueError, match="1 to 255 bytes"):
            ctx.array(name, 1)
    with pytest.raises(TypeError, match="name"):
        ctx.array(b"a", 1)  # type: ignore[arg-type]
    assert list(ctx.areas) == ["ü", "x" * 255, "a b/c"]


def test_a_name_is_claimed_once(ctx: pyhac.Context) -> None:
    ctx.array("a", 1)
    with pytest.raises(pyhac.TransactionError, match="a"):
        ctx.array("a", 1)


def test_drop(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction():
        a[0] = 5
        with pytest.raises(pyhac.TransactionError):
            ctx.drop("a")
    ctx.drop("a")
    assert a[0] == 5  # still readable
    assert "a" not in ctx.areas
    assert ctx.array("a", 2, "<i4")[0] == 0
    with pytest.raises(ValueError, match="no area 'b'"):
        ctx.drop("b")


def test_views_of_views_keep_memory(ctx: pyhac.Context) -> None:
    a = ctx.array("a", (100, 10), "<i8", init=lambda new: new.fill(3))
    column = a[:, 2][5:].view("<u8").reshape(5, 19)
    record = memoryview(a[7])
    del a
    gc.collect()
    ctx.drop("a")
    gc.collect()
    assert column.sum() == 3 * 95
    assert record[0] == 3


def test_an_engine_of_its_own(ctx: pyhac.Context, engine: str) -> None:
    a = ctx.array("a", 10_000, "<i8", engine=engine)
    assert ctx.areas["a"].engine == engine
    with ctx.transaction() as txn:
        a[5_000] = 1
    assert [run.offset for run in txn.delta] == [40_000]


def test_engine_errors(ctx: pyhac.Context) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        ctx.array("a", 4, engine="nonsense")
    with pytest.raises(TypeError, match="engine"):
        ctx.array("a", 4, engine=3)  # type: ignore[arg-type]
    assert not ctx.areas


def test_pointers_flag_is_kept(ctx: pyhac.Context) -> None:
    ctx.array("a", 4, pointers=True, kernel_writes=False)
    info = ctx.areas["a"]
    assert info.pointers
    assert not info.kernel_writes


def test_area_info(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8", capacity=1000)
    info = ctx.areas["a"]
    assert info.address == a.ctypes.data
    assert (info.size, info.type) == (32, "<i8[:]")
    assert info.capacity >= 8000
    assert info.claimed
    assert not info.restored
    assert not info.adopted
