# SPDX-License-Identifier: MIT
"""Every form of delta, codec and cipher, through every sink: the bytes are the same."""

import secrets
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pyhac
from tests.replication.nodes import free_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

CODECS = ("none", "zstd", "lz4")
SIZE = 200_000


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "data.key"
    path.write_text(secrets.token_hex(32) + "\n")
    return str(path)


class Backup:
    def __init__(self, image: Path, where: list[str], key: str | None) -> None:
        command = [sys.executable, "-m", "pyhac.commands", "backup", "serve"]
        command += ["--image", str(image), *where, *(["--key-file", key] if key else [])]
        self.image = image
        self._log = image.with_suffix(".log").open("wb")
        self.process = subprocess.Popen(command, stderr=self._log)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0
        self._log.close()


def transact(ctx: pyhac.Context, rows: "np.ndarray[tuple[int], np.dtype[np.uint8]]") -> None:
    """Small and large, what can be compressed and what cannot, none at all."""
    chance = np.random.default_rng(7)
    for size in (1, 8, 300, 5000, SIZE, 0, 70_000):
        for repeated in (False, True):
            at = int(chance.integers(0, SIZE - size + 1))
            with ctx.transaction():
                rows[at : at + size] = 65 if repeated else np.frombuffer(chance.bytes(size), "u1")


def contents(image: Path, key: str | None, epoch: int) -> bytes:
    with pyhac.open(image, readonly=True, key_file=key) as ctx:
        assert ctx.epoch == epoch
        return ctx.array("rows", SIZE, "u1").tobytes()


def round_trip(
    folder: Path, peer: str, where: list[str], codec: str, key: str | None, twin: bool
) -> None:
    backup = Backup(folder / "b.hac", where, key)
    try:
        with pyhac.open(
            folder / "a.hac",
            level=pyhac.Level.RING,
            role="primary",
            peers=[peer],
            codec=codec,
            key_file=key,
            twin=twin,
        ) as ctx:
            rows = ctx.array("rows", SIZE, "u1")
            transact(ctx, rows)
            with ctx.transaction(level=pyhac.Level.BACKUP(1)):
                rows[0] += 1
            wanted, epoch = rows.tobytes(), ctx.epoch
    finally:
        # What a stream has acknowledged, its reader may not have yet.
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if contents(backup.image, key, epoch) == wanted:
                    break
            except (AssertionError, OSError, pyhac.Error):
                pass
            time.sleep(0.05)
        backup.stop()
    assert contents(folder / "a.hac", key, epoch) == wanted
    assert contents(folder / "b.hac", key, epoch) == wanted
    plain = b"A" * 600 in (folder / "b.hac" / "journal.00000001").read_bytes()
    assert plain == (codec == "none" and key is None)


@pytest.mark.parametrize("twin", [True, False], ids=["words", "pages"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("codec", CODECS)
def test_journal_and_backup(
    tmp_path: Path, key: str, codec: str, encrypted: bool, twin: bool
) -> None:
    address = f"127.0.0.1:{free_port()}"
    used = key if encrypted else None
    round_trip(tmp_path, address, ["--listen", address], codec, used, twin)


@pytest.mark.parametrize("twin", [True, False], ids=["words", "pages"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("codec", CODECS)
def test_journal_and_stream(
    cluster: "Cluster", tmp_path: Path, key: str, codec: str, encrypted: bool, twin: bool
) -> None:
    name = f"c-{codec}-{int(encrypted)}-{int(twin)}"
    address = cluster.text(name)
    used = key if encrypted else None
    round_trip(tmp_path, address, ["--peer", address], codec, used, twin)
