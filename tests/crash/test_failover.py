# SPDX-License-Identifier: MIT
"""Kill primary, helper and backup at random moments, in all combinations; fail over.

HAC_CRASH_ROUNDS (100) says how often, HAC_CRASH_SEED (1) at which moments. The primary
is failover_child.c; its transactions are numbers, so that the state that each left can
be worked out.
"""

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pyhac
from tests.crash.compiled import compiled

ROUNDS = int(os.environ.get("HAC_CRASH_ROUNDS", "100"))
SEED = int(os.environ.get("HAC_CRASH_SEED", "1"))
HELPER = [sys.executable, "-m", "pyhac.replication"]
HAC = [sys.executable, "-m", "pyhac.commands"]
WORDS, BULK = 8192, 16384
PATIENCE = 60.0
FENCED = 3


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The primary, compiled against the library that pyhac uses."""
    return compiled("failover_child", tmp_path_factory.mktemp("failover"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Not even as a zombie that its parent, which is dead, left to somebody."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until_gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while pid and alive(pid):
        assert time.monotonic() < end, f"the helper {pid} does not end"
        time.sleep(0.005)


# -- the model ------------------------------------------------------------------


def mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def expected(n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """What transaction n left."""
    numbers = np.arange(1, n + 1, dtype="u8")
    words = np.zeros(WORDS, "u8")
    for j in range(4):
        places = 1 + mixed(numbers * np.uint64(4) + np.uint64(j)) % np.uint64(WORDS - 1)
        np.maximum.at(words, places.astype("i8"), numbers)
    words[0] = n
    return words, np.full(BULK, n // 64 * 64, "u8")


def state_of(image: Path) -> int:
    """The transaction whose state the image holds. It must hold one's, whole."""
    with pyhac.open(image, readonly=True) as ctx:
        if not ctx.areas:
            return 0
        words = np.frombuffer(ctx.buffer("words", WORDS * 8), "u8")
        bulk = np.frombuffer(ctx.buffer("bulk", BULK * 8), "u8") if "bulk" in ctx.areas else None
        n = int(words[0])
        right = expected(n)
        assert np.array_equal(words, right[0]), f"{image}: not what transaction {n} left"
        assert bulk is None or np.array_equal(bulk, right[1]), f"{image}: bulk is not of {n}"
        return n


def generation_of(image: Path) -> int:
    if not (image / "layout").exists():
        return 0
    with pyhac.open(image, readonly=True) as ctx:
        return ctx.generation


# -- who is killed ----------------------------------------------------------------


class Primary:
    """The program, and what it said: (number, helper's pid)."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
        )
        self.acknowledged = -1
        self.found = -1  # what its own image held: no backup need have it
        self.helper = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        while len(line := self.process.stdout.read(16)) == 16:
            self.acknowledged, self.helper = struct.unpack("<QQ", line)
            if self.found < 0:
                self.found = self.acknowledged

    def until(self, number: int, backup: "Backup | None" = None) -> bool:
        """It has acknowledged so much; False if it ended before."""
        end = time.monotonic() + PATIENCE
        while self.acknowledged < number:
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, f"it stands at {self.acknowledged}"
            time.sleep(0.002)
        return True

    def kill(self) -> None:
        self.process.kill()

    def kill_helper(self) -> None:
        if self.helper:
            with suppress(ProcessLookupError):
                os.kill(self.helper, signal.SIGKILL)

    def end(self) -> int:
        code = self.process.wait()
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()
        self._log.close()
        return code


class Backup:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._log = machine.log.open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [*HAC, "backup", "serve", "--image", str(self._machine.image)]
        command += ["--listen", self._machine.address]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def promote(self) -> None:
        """It becomes primary, which ends it: the image is then anybody's."""
        assert self.process
        end = time.monotonic() + PATIENCE
        while True:
            command = [*HAC, "backup", "promote", self._machine.address]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not done.returncode:
                break
            assert time.monotonic() < end, done.stderr
            time.sleep(0.05)  # it may still be starting
        assert self.process.wait(PATIENCE) == 0

    def end(self) -> None:
        assert self.process
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self._log.close()


class Machine:
    def __init__(self, folder: Path, name: str) -> None:
        self.image = folder / f"{name}.hac"
        self.log = folder / f"{name}.log"
        self.address = f"127.0.0.1:{free_port()}"


KINDS = ("app", "helper", "backup", "app helper", "helper backup", "app helper backup")


class Pair:
    """Two machines: one writes, the other is its backup."""

    def __init__(self, child: str, folder: Path) -> None:
        self.child = child
        self.writer, self.other = Machine(folder, "a"), Machine(folder, "b")
        self.failovers = 0

    def primary(self, level: str) -> Primary:
        command = [self.child, str(self.writer.image), level, "--", *HELPER, "--"]
        command += ["--peer", self.other.address, "--linger", "2"]
        return Primary(command, self.writer.log)

    def round(self, chance: random.Random) -> tuple[int, int]:
        """Run, kill, look. What was acknowledged, and what the backup holds."""
        level = chance.choice(["ring", "journal", "backup"])
        kind = chance.choice(KINDS)
        backup = Backup(self.other)
        primary = self.primary(level)
        try:
            if chance.random() < 0.8:
                assert primary.until(0), "it did not open"
                primary.until(primary.acknowledged + chance.choice([1, 10, 200]))
            time.sleep(chance.random() * 0.3)
            self.strike(kind, primary, backup, chance)
            if "app" not in kind:
                self.go_on(kind, primary, backup)
        finally:
            primary.kill()
            primary.end()
            until_gone(primary.helper)
        self.settle(backup)
        acknowledged, held = primary.acknowledged, self.look(level, kind, primary)
        if chance.random() < 0.3:
            self.fail_over(backup, kind, held)
        else:
            backup.end()
        return acknowledged, held

    def strike(self, kind: str, primary: Primary, backup: Backup, chance: random.Random) -> None:
        blows = {"app": primary.kill, "helper": primary.kill_helper, "backup": backup.kill}
        victims = kind.split()
        chance.shuffle(victims)
        for victim in victims:
            blows[victim]()
            if chance.random() < 0.3:
                time.sleep(chance.random() * 0.02)

    def go_on(self, kind: str, primary: Primary, backup: Backup) -> None:
        """The application lives: it goes on with another helper, or backup."""
        if "backup" in kind:
            backup.start()
        before = primary.acknowledged
        assert primary.until(before + 20), f"it ended with {primary.process.wait()}"

    def look(self, level: str, kind: str, primary: Primary) -> int:
        """The images against what was acknowledged; what the backup holds."""
        acknowledged = primary.acknowledged
        own = state_of(self.writer.image) if self.writer.image.exists() else 0
        # What was only in the ring is lost if helper and application die together.
        if level != "ring" or kind in ("app", "backup"):
            assert own >= acknowledged, f"{level}, {kind}: {acknowledged} acknowledged, {own} left"
        held = state_of(self.other.image) if (self.other.image / "layout").exists() else 0
        if level == "backup" and acknowledged > primary.found:
            assert held >= acknowledged, f"{kind}: {acknowledged} acknowledged, backup has {held}"
        return held

    def settle(self, backup: Backup) -> None:
        """A backup that was killed while a base took its image's place finishes that when
        it is started again; until then nobody can read it."""
        if not (self.other.image / "layout").exists():
            return
        try:
            state_of(self.other.image)
        except BlockingIOError:
            if backup.process is not None and backup.process.poll() is None:
                backup.kill()
            backup.start()
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                try:
                    state_of(self.other.image)
                    break
                except BlockingIOError:
                    time.sleep(0.01)
            backup.kill()

    def fail_over(self, backup: Backup, kind: str, held: int) -> None:
        # To promote a backup that has not even heard of the newest generation makes two
        # histories of which neither outranks the other: people have to decide then.
        known = generation_of(self.other.image)
        if not known or known < generation_of(self.writer.image):
            backup.end()
            return
        if backup.process is None or backup.process.poll() is not None:
            backup.start()
        backup.promote()
        backup.end()
        assert state_of(self.other.image) >= held
        self.writer, self.other = self.other, self.writer
        self.failovers += 1


def rounds(share: float) -> Iterator[tuple[int, random.Random]]:
    for number in range(max(1, round(ROUNDS * share))):
        seed = SEED * 1_000_003 + number
        yield seed, random.Random(seed)


def test_killed_and_failed_over(child: str, tmp_path: Path) -> None:
    pair, told, held_most, failovers = Pair(child, tmp_path), 0, 0, 0
    for seed, chance in rounds(1.0):
        try:
            acknowledged, held = pair.round(chance)
        except AssertionError as failure:
            logs = "".join(
                machine.log.read_text(errors="replace")[-3000:]
                for machine in (pair.writer, pair.other)
                if machine.log.exists()
            )
            raise AssertionError(
                f"HAC_CRASH_SEED={SEED}, round {seed}: {failure}\n{logs}"
            ) from None
        told, held_most = max(told, acknowledged), max(held_most, held)
        if chance.random() < 0.1:
            failovers += pair.failovers
            pair = Pair(child, tmp_path / str(seed))
            (tmp_path / str(seed)).mkdir()
    failovers += pair.failovers
    assert told > 0
    assert held_most > 0
    assert ROUNDS < 20 or failovers > 0


def test_the_old_primary_is_fenced(child: str, tmp_path: Path) -> None:
    pair = Pair(child, tmp_path)
    backup, primary = Backup(pair.other), pair.primary("backup")
    try:
        assert primary.until(100)
        backup.promote()
        # Nobody acknowledges any more, and who comes first says why.
        serving = Backup(pair.other)
        assert primary.process.wait(PATIENCE) in (3, 4)
        serving.end()
    finally:
        primary.kill()
        primary.end()
        until_gone(primary.helper)
        backup.end()
    assert state_of(pair.other.image) >= primary.acknowledged
    serving = Backup(pair.other)
    again = pair.primary("journal")
    assert again.end() == FENCED
    serving.end()
