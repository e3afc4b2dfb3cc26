# SPDX-License-Identifier: MIT
"""Memory that exists becomes an area: buffers, and variables of libraries."""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import mmap
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pyhac

if TYPE_CHECKING:
    from tests.conftest import Opener, Runner

SIZE = 20_000


def anonymous_map() -> Any:
    return mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros(SIZE, np.uint8),
        lambda: np.zeros((10, SIZE // 80), "<M8[s]"),
        lambda: bytearray(SIZE),
        lambda: (ctypes.c_int * (SIZE // 4))(),
        anonymous_map,
        lambda: array.array("d", bytes(SIZE)),
        lambda: memoryview(bytearray(SIZE)),
        lambda: np.zeros(SIZE + 100, np.uint8)[33 : SIZE + 33],
    ],
    ids=["numpy", "datetime", "bytearray", "ctypes", "mmap", "array", "memoryview", "unaligned"],
)
def test_buffers(opened: Opener, engine: str, make: Callable[[], Any]) -> None:
    ctx = opened(engine=engine)
    buffer = make()
    if isinstance(buffer, np.ndarray):
        view = buffer.reshape(-1).view(np.uint8)
    else:
        view = np.frombuffer(buffer, np.uint8)
    ctx.adopt("it", buffer)
    with ctx.transaction():
        pass
    with ctx.transaction() as txn:
        view[3] = 1
        view[8000:8010] = 2
        view[-1] = 3
    replica = bytearray(view.size)
    txn.delta.apply({"it": replica})
    assert replica == view.tobytes()
    with ctx.transaction():
        view[:] = 9
        raise pyhac.Abort
    assert replica == view.tobytes()
    assert ctx.areas["it"].adopted
    ctx.close()
    view[:] = 4  # handed back writable


def test_neighbours_are_not_disturbed(opened: Opener, engine: str, tmp_path: Path) -> None:
    ctx = opened(engine=engine)
    memory = np.zeros(3 * 4096, np.uint8)
    ctx.adopt("middle", memory[1000:9000])
    with ctx.transaction():
        pass
    file = tmp_path / "data"
    file.write_bytes(b"x" * 1000)
    with open(file, "rb", buffering=0) as source:
        assert source.readinto(memory[:1000].data) == 1000
    with ctx.transaction() as txn:
        memory[10] = 1
        memory[9500] = 1
    assert len(txn.delta) == 0


def test_the_buffer_stays_alive_and_in_place() -> None:
    class Array(np.ndarray[Any, Any]):
        pass

    buffer = bytearray(100)
    array = np.zeros(100).view(Array)
    gone = weakref.ref(array)
    ctx = pyhac.open()
    ctx.adopt("buffer", buffer)
    ctx.adopt("array", array)
    with pytest.raises(BufferError):
        buffer.append(1)
    del array
    gc.collect()
    assert gone() is not None
    ctx.drop("buffer")
    buffer.append(1)
    ctx.close()
    gc.collect()
    assert gone() is None


def test_what_cannot_be_adopted(ctx: pyhac.Context) -> None:
    cases: list[tuple[Any, type[Exception], str]] = [
        (b"abc", ValueError, "read-only"),
        (bytearray(), ValueError, "empty"),
        (np.zeros(0), ValueError, "empty"),
        (np.zeros((4, 4))[:, 1], ValueError, "C-contiguous"),
        (memoryview(bytearray(8))[::2], ValueError, "C-contiguous"),
        (np.zeros(4, "O"), TypeError, "Python objects"),
        ("text", TypeError, "writable buffer"),
        (5, TypeError, "writable buffer"),
        (np.broadcast_to(np.zeros(1), (3,)), ValueError, "contiguous"),
    ]
    for buffer, kind, message in cases:
        with pytest.raises(kind, match=message):
            ctx.adopt("it", buffer)
    buffer = bytearray(10_000)
    ctx.adopt("it", buffer)
    with pytest.raises(pyhac.TransactionError):
        ctx.adopt("it", bytearray(5))
    with pytest.raises(ValueError, match=r"."):
        ctx.adopt("other", memoryview(buffer)[100:200])
    assert list(ctx.areas) == ["it"]


LIBRARY = r"""
#include <stdint.h>
#define CDA __attribute__((section("hac_cda")))
CDA int64_t counter = 5;
CDA char text[5000] = "hello";
int64_t other[10];
const int64_t fixed = 3;
static int64_t hidden __attribute__((used)) = 8;
void count(void) { counter++; other[3]++; hidden++; }
int64_t read_hidden(void) { return hidden; }
"""


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Builds the library; options go to the compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")

    def make(name: str = "libthing.so", *options: str) -> Path:
        source = tmp_path / "thing.c"
        source.write_text(LIBRARY)
        target = tmp_path / name
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-Wl,--build-id", *options, "-o", target, source],
            check=True,
        )
        return target

    return make


@pytest.mark.parametrize("stripped", [False, True])
def test_a_section_of_a_library(
    opened: Opener, engine: str, build: Callable[..., Path], stripped: bool
) -> None:
    ctx = opened(engine=engine)
    path = build("libthing.so", "-Wl,-soname,libthing.so.1", *(["-s"] if stripped else []))
    library = ctypes.CDLL(str(path))
    adopted = ctx.adopt_object(library)
    assert list(adopted) == ["libthing.so.1:hac_cda"]
    view = adopted["libthing.so.1:hac_cda"]
    assert b"hello" in bytes(view)
    counter = ctypes.c_int64.in_dll(library, "counter")
    with ctx.transaction() as txn:
        library.count()
    assert counter.value == 6
    assert len(txn.delta) == 1
    with ctx.transaction():
        library.count()
        raise pyhac.Abort
    assert counter.value == 6
    info = ctx.areas["libthing.so.1:hac_cda"]
    assert info.fingerprint is not None
    assert "build-id" in info.fingerprint
    assert "build-id none" not in info.fingerprint


def test_symbols_of_a_library(ctx: pyhac.Context, build: Callable[..., Path]) -> None:
    path = build()
    library = ctypes.CDLL(str(path))
    adopted = ctx.adopt_object(path, symbols=["other", "hidden"])
    assert {name: len(view) for name, view in adopted.items()} == {
        "libthing.so:other": 80,
        "libthing.so:hidden": 8,
    }
    with ctx.transaction() as txn:
        library.count()
    assert [run.area for run in txn.delta] == ["libthing.so:other", "libthing.so:hidden"]
    with ctx.transaction():
        adopted["libthing.so:hidden"][0] = 100
        assert library.read_hidden() == 100
        raise pyhac.Abort
    assert library.read_hidden() == 9


def test_libraries_can_be_named_in_many_ways(
    build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cffi = pytest.importorskip("cffi")
    path = build("libmanyways.so")
    ffi = cffi.FFI()
    ffi.cdef("void count(void);")
    dlopened = ffi.dlopen(str(path))
    out = cffi.FFI()
    out.cdef("void count(void);")
    out.set_source("hac_many_ways", LIBRARY)
    out.compile(tmpdir=str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("hac_many_ways")
    ways = [path, str(path), "libmanyways.so", ctypes.CDLL(str(path)), dlopened]
    for library in [*ways, module, module.lib]:
        with pyhac.open() as ctx:
            assert len(ctx.adopt_object(library)) == 1
    sys.modules.pop("hac_many_ways")


def test_what_is_wrong_with_libraries(
    ctx: pyhac.Context, build: Callable[..., Path], tmp_path: Path
) -> None:
    path = build()
    with pytest.raises(ValueError, match=r"not loaded.*CDLL"):
        ctx.adopt_object(path)
    with pytest.raises(ValueError, match="not loaded"):
        ctx.adopt_object(tmp_path / "absent.so")
    kept = ctypes.CDLL(str(path))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"section": "nothing"}, "no section 'nothing'"),
        ({"symbols": ["counter", "nothing"]}, "no symbol 'nothing'"),
        ({"symbols": ["count"]}, "not a variable"),
        ({"symbols": ["fixed"]}, "read-only"),
        ({"section": ".text"}, "read-only"),
        ({"symbols": []}, "empty"),
        ({"symbols": ["counter", "counter"]}, r"."),
    ]
    for arguments, message in cases:
        with pytest.raises((ValueError, pyhac.TransactionError), match=message):
            ctx.adopt_object(path, **arguments)
        assert not ctx.areas
    with pytest.raises(TypeError, match=r"\['counter'\]"):
        ctx.adopt_object(path, symbols="counter")
    with pytest.raises(TypeError, match="a path"):
        ctx.adopt_object(5)
    assert kept.read_hidden() == 8


def test_libraries_stay_loaded(ctx: pyhac.Context, build: Callable[..., Path]) -> None:
    path = build("libstays.so")
    library = ctypes.CDLL(str(path))
    view = ctx.adopt_object(library)["libstays.so:hac_cda"]
    handle = library._handle
    del library
    close = ctypes.CDLL(None).dlclose
    close.argtypes = [ctypes.c_void_p]
    assert close(handle) == 0
    with ctx.transaction():
        view[0] = 1
    assert str(path) in Path("/proc/self/maps").read_text()


def test_libraries_come_back_as_the_same_build_only(
    run: Runner, image: Path, build: Callable[..., Path]
) -> None:
    program = """
import ctypes, sys, pyhac
library = ctypes.CDLL(sys.argv[2])
with pyhac.open(sys.argv[1]) as ctx:
    try:
        ctx.adopt_object(library)
    except pyhac.LayoutError as failure:
        print(failure)
        sys.exit()
    with ctx.transaction():
        library.count()
    print(ctypes.c_int64.in_dll(library, "counter").value)
"""
    path = build()
    for count in (6, 7, 8):
        result = run(program, str(image), str(path))
        assert result.stdout == f"{count}\n", result.stderr
    build("libthing.so", "-O2", "-DANOTHER=1", "-Wl,--build-id=0x1234")
    assert "1234" in run(program, str(image), str(path)).stdout
