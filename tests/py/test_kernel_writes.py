# SPDX-License-Identifier: MIT
"""What the kernel writes on a program's behalf is seen, where it has to be
announced and where not."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyhac

if TYPE_CHECKING:
    from tests.conftest import Opener

ENGINES = {engine.name: engine for engine in pyhac.engines()}
SIZE = 20_000
DATA = bytes(range(1, 251)) * (SIZE // 250)
Write = Callable[[memoryview, Path], None]


def by_readinto(view: memoryview, file: Path) -> None:
    with open(file, "rb", buffering=0) as source:
        assert source.readinto(view[100:9000]) == 8900


def by_recv_into(view: memoryview, file: Path) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(DATA[:3000])
        assert right.recv_into(view[4000:7000], 3000, socket.MSG_WAITALL) == 3000


def by_preadv(view: memoryview, file: Path) -> None:
    with open(file, "rb") as source:
        assert os.preadv(source.fileno(), [view[:10], view[5000:6000]], 7) == 1010


def by_getrandom(view: memoryview, file: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    target = (ctypes.c_char * SIZE).from_buffer(view)
    address = ctypes.c_void_p(ctypes.addressof(target) + 8000)
    assert libc.getrandom(address, ctypes.c_size_t(200), 0) == 200


@pytest.mark.parametrize("write", [by_readinto, by_recv_into, by_preadv, by_getrandom])
@pytest.mark.parametrize("announced", [False, True], ids=["direct", "announced"])
def test_kernel_writes(
    opened: Opener, engine: str, write: Write, announced: bool, tmp_path: Path
) -> None:
    if not announced and not ENGINES[engine].kernel_writes:
        pytest.skip(f"under {engine}, kernel writes have to be announced")
    file = tmp_path / "data"
    file.write_bytes(DATA)
    ctx = opened(engine=engine)
    area = ctx.buffer("area", SIZE)
    replica = bytearray(SIZE)
    for _ in range(3):
        with ctx.transaction() as txn:
            if announced:
                txn.will_write(area)
            write(area, file)
        txn.delta.apply({"area": replica})
        assert replica == bytes(area)
        assert any(replica)
    with ctx.transaction() as txn:
        if announced:
            txn.will_write(area[:])
        write(area, file)
        area[0] ^= 1
        raise pyhac.Abort
    assert replica == bytes(area)


def test_unannounced_kernel_writes_fail_visibly(
    opened: Opener, engine: str, tmp_path: Path
) -> None:
    if ENGINES[engine].kernel_writes:
        pytest.skip(f"under {engine}, kernel writes just work")
    if engine == "scanxen":
        pytest.skip("under scanxen, some kernel writes are seen and none fails")
    file = tmp_path / "data"
    file.write_bytes(DATA)
    ctx = opened(engine=engine)
    area = ctx.buffer("area", SIZE)
    with ctx.transaction():
        pass
    with pytest.raises(OSError, match="Bad address"), ctx.transaction():
        by_readinto(area, file)
    assert bytes(area) == bytes(SIZE)


def test_will_write_errors(ctx: pyhac.Context) -> None:
    a = ctx.array("a", (100, 10), "<i8")
    with ctx.transaction() as txn:
        txn.will_write(a)
        txn.will_write(a[5])
        with pytest.raises(ValueError, match=r"."):
            txn.will_write(bytearray(10))
        with pytest.raises(ValueError, match="contiguous"):
            txn.will_write(a[:, 2])
        with pytest.raises(ValueError, match="read-only"):
            txn.will_write(b"abc")
        with pytest.raises(TypeError, match="needs a writable buffer"):
            txn.will_write(5)  # type: ignore[arg-type]
    with pytest.raises(pyhac.TransactionError, match="not open"):
        txn.will_write(a)
