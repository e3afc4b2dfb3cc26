# SPDX-License-Identifier: MIT
"""Kill writers at random moments; what they leave is what a transaction left.

HAC_CRASH_ROUNDS (100) says how often, HAC_CRASH_SEED (1) at which moments.
"""

import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyhac
from tests.crash.compiled import compiled

ROUNDS = int(os.environ.get("HAC_CRASH_ROUNDS", "100"))
SEED = int(os.environ.get("HAC_CRASH_SEED", "1"))


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The C program, compiled against the library that pyhac uses."""
    return compiled("crash_child", tmp_path_factory.mktemp("crash"))


class Victim:
    """A program that is killed after a while, and what it acknowledged."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def kill(self, after: float) -> int:
        """The last number that it wrote; 0 if none."""
        time.sleep(after)
        self.process.kill()
        out, errors = self.process.communicate()
        assert self.process.returncode == -9, errors.decode()
        whole = len(out) // 8 * 8
        return struct.unpack("<Q", out[whole - 8 : whole])[0] if whole else 0


class Image:
    """An image that survives its writers, and the model to compare it with."""

    def __init__(self, child: str, directory: Path) -> None:
        self.child = child
        self.path = directory / "crash.hac"
        self.model = directory / "model"
        self.acknowledged = 0
        self.seen = 0

    def run_and_kill(self, level: str, seed: int, after: float) -> None:
        victim = Victim([self.child, "run", str(self.path), level, str(seed)])
        self.acknowledged = max(self.acknowledged, victim.kill(after))

    def compact_and_kill(self, after: float) -> None:
        Victim([self.child, "compact", str(self.path)]).kill(after)

    def check(self, how: str) -> None:
        if not self.path.exists():
            assert not self.acknowledged
            return
        done = subprocess.run(
            [self.child, "check", str(self.path), str(self.model), str(self.acknowledged), how],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        (self.seen,) = struct.unpack("<Q", done.stdout)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.model.unlink(missing_ok=True)
        self.acknowledged = self.seen = 0


@pytest.fixture
def image(child: str, tmp_path: Path) -> Iterator[Image]:
    made = Image(child, tmp_path)
    yield made
    made.remove()


def some_time(chance: random.Random) -> float:
    """Often while it opens and recovers, mostly while it runs."""
    if chance.random() < 0.3:
        return chance.random() * 0.015
    return chance.random() * (0.5 if chance.random() < 0.1 else 0.12)


def rounds(share: float) -> Iterator[tuple[int, random.Random]]:
    for number in range(max(1, round(ROUNDS * share))):
        seed = SEED * 1_000_003 + number
        yield seed, random.Random(seed)


@pytest.mark.parametrize("level", ["journal", "ring"])
def test_killed_writers(image: Image, level: str) -> None:
    told = False
    for seed, chance in rounds(0.35):
        kills = chance.choice([1, 1, 1, 2, 4])
        for kill in range(kills):
            image.run_and_kill(level, seed * 8 + kill, some_time(chance))
        if chance.random() < 0.2 and image.seen:
            image.compact_and_kill(chance.random() * 0.03)
        try:
            image.check("readonly" if image.seen and chance.random() < 0.5 else "writable")
        except AssertionError as failure:
            raise AssertionError(f"HAC_CRASH_SEED={SEED}, round {seed}: {failure}") from None
        told |= image.acknowledged > 0
        if chance.random() < 0.04:
            image.remove()
    assert told


def test_killed_while_compacting(image: Image) -> None:
    image.run_and_kill("ring", SEED, 0.2)
    for seed, chance in rounds(0.2):
        image.compact_and_kill(chance.random() * 0.05)
        image.check(chance.choice(["readonly", "writable"]) if image.seen else "writable")
        if chance.random() < 0.2:
            image.run_and_kill("journal", seed, chance.random() * 0.1)


# The number of the transaction is in every place that it writes.
PROGRAM = """
import os, sys
import pyhac
level = pyhac.Level.RING if sys.argv[2] == "ring" else pyhac.Level.JOURNAL
ctx = pyhac.open(sys.argv[1], level=level)
a = ctx.array("a", 1000, "<i8")
b = ctx.array("b", 100, "<i8", capacity=100000)
n = int(a[0])
while True:
    n += 1
    with ctx.transaction() as txn:
        a[0] = n
        a[n % 1000] = n
        a[1 + n * 7919 % 999] = n
        if len(b) < min(100000, 100 + n // 10 * 50):
            b = ctx.resize("b", min(100000, 100 + n // 10 * 50))
        b[n % 100] = n
    if level == pyhac.Level.JOURNAL or n % 50 == 0:
        txn.wait(pyhac.Level.JOURNAL)
        os.write(1, n.to_bytes(8, "little"))
    with ctx.transaction():
        a[:] = -1
        raise pyhac.Abort
"""


def check_state(ctx: pyhac.Context, acknowledged: int) -> None:
    a = ctx.array("a", 1000, "<i8")
    b = ctx.array("b", 100, "<i8", capacity=100000)
    wanted_a, wanted_b = [0] * 1000, [0] * 100
    for n in range(1, int(a[0]) + 1):
        wanted_a[0] = n
        wanted_a[n % 1000] = n
        wanted_a[1 + n * 7919 % 999] = n
        wanted_b[n % 100] = n
    assert a[0] >= acknowledged
    assert a.tolist() == wanted_a
    assert b[:100].tolist() == wanted_b
    assert not b[100:].any()
    assert len(b) == min(100000, 100 + int(a[0]) // 10 * 50)


@pytest.mark.filterwarnings("ignore::pyhac.ImageCut")
@pytest.mark.parametrize("level", ["journal", "ring"])
def test_killed_pyhac(tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path[1:]))
    path, acknowledged, patience = tmp_path / "py.hac", 0, 1.0
    for seed, chance in rounds(0.05):
        victim = Victim([sys.executable, "-c", PROGRAM, str(path), level])
        acknowledged = max(acknowledged, victim.kill((0.1 + chance.random() * 0.9) * patience))
        if not acknowledged:
            patience *= 2  # a busy machine takes longer to import than that
        if not path.exists():
            continue
        start = time.monotonic()
        with pyhac.open(path) as ctx:
            assert time.monotonic() - start < 5
            print(f"HAC_CRASH_SEED={SEED}, round {seed}: acknowledged {acknowledged}")
            check_state(ctx, acknowledged)
    assert acknowledged
