# SPDX-License-Identifier: MIT
"""Real programs with real contexts, helpers and images; killed wherever it hurts."""

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.replication.nodes import eventually, free_port
from tests.replication.proxy import Proxy

PROGRAM = Path(__file__).with_name("real_context.py")
ROUNDS = int(os.environ.get("HAC_CRASH_ROUNDS", "30")) // 3 or 1


class Program:
    """A program on a machine of its own: image, port and log are the machine's."""

    def __init__(self, folder: Path, name: str, port: int, peer: int) -> None:
        self.name, self.port, self.peer = name, port, peer
        self.image = folder / name
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[str] | None = None
        self.extra: list[str] = []

    def start(self, role: str) -> None:
        arguments = ["--listen", f"127.0.0.1:{self.port}", "--peer", f"127.0.0.1:{self.peer}"]
        command = [sys.executable, str(PROGRAM), str(self.image), role, *arguments]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--name", self.name, "--silence", "2", *self.extra],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def answer(self, seconds: float = 30.0) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        assert ready, f"no answer from {self.name}:\n{self.log.read_text()[-3000:]}"
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.answer()

    def state(self, line: str) -> tuple[int, int]:
        """Epoch and value after a command that has to succeed."""
        word, *rest = self.ask(line).split()
        assert word == "ok", " ".join(rest)
        return int(rest[0]), int(rest[1])

    def helper(self) -> int:
        return int(self.ask("write 0").split()[3])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
            self.process = None


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[tuple[Program, Program]]:
    ports = free_port(), free_port()
    a = Program(tmp_path, "a", ports[0], ports[1])
    b = Program(tmp_path, "b", ports[1], ports[0])
    yield a, b
    for program in (a, b):
        program.kill()
        if program.log.exists():
            assert "Traceback" not in program.log.read_text(), program.log.read_text()


@pytest.fixture
def pair(programs: tuple[Program, Program]) -> tuple[Program, Program]:
    a, b = programs
    b.start("standby")
    a.start("primary")
    assert a.answer() == "ok"
    assert b.answer() == "ok"
    return a, b


def test_a_standby_follows_and_is_promoted(pair: tuple[Program, Program]) -> None:
    a, b = pair
    a.state("write 20")
    epoch, value = a.state("safe 1")
    assert value == 20
    assert b.state("advance") == (epoch, 20)
    assert b.state("promote") == (epoch, 20)
    # Fenced as soon as the two talk; what it wrote meanwhile is safe nowhere else.
    answers = [a.ask("write 1")]
    while "116" not in answers[-1] and len(answers) < 500:
        time.sleep(0.01)
        answers.append(a.ask("write 1"))
    assert "fenced" in answers[-1]
    if len(answers) > 1:
        assert "ok" not in a.ask("safe 1")
    assert b.state("write 5")[1] == 25
    b.state("safe 0")


def test_a_dead_helper_is_replaced_and_nothing_is_lost(pair: tuple[Program, Program]) -> None:
    a, b = pair
    for turn in range(5):
        a.tell("write 30")
        time.sleep(0.002 * turn)
        pid = int(a.answer().split()[3])
        if pid:
            os.kill(pid, signal.SIGKILL)
        assert a.state("write 10")[1] == (turn + 1) * 40
    epoch, value = a.state("safe 1")
    assert b.state("advance") == (epoch, value) == (epoch, 200)


def test_closing_and_opening_again(pair: tuple[Program, Program]) -> None:
    a, b = pair
    a.state("write 7")
    assert a.ask("close") == "ok"
    a.kill()
    a.start("primary")
    assert a.answer() == "ok"
    assert a.state("write 1")[1] == 8
    a.state("safe 1")
    assert b.state("advance")[1] == 8


def test_compacting_while_the_standby_is_away(pair: tuple[Program, Program]) -> None:
    a, b = pair
    a.state("write 5")
    a.state("safe 1")
    b.kill()
    a.state("write 50")
    a.state("compact")
    a.state("write 5")
    b.start("standby")
    assert b.answer() == "ok"
    a.state("safe 1")
    assert b.state("advance")[1] == 60
    # It says so after it has told its primary.
    eventually(lambda: b.log.read_text().count('"replaced"') == 2)


def test_an_old_primary_comes_back_as_standby(pair: tuple[Program, Program]) -> None:
    a, b = pair
    a.state("write 5")
    a.state("safe 1")
    a.kill()
    assert b.state("promote")[1] == 5
    b.state("write 5")
    a.start("primary")
    assert "generation 1000000" in a.answer()
    a.kill()
    a.start("auto")
    assert a.answer() == "ok"
    b.state("safe 1")
    assert a.state("advance")[1] == 10


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kills(programs: tuple[Program, Program], seed: int) -> None:
    """Kill program, helper or standby at random, and promote in the end. What was
    acknowledged is there; what is there is a transaction that ended, whole."""
    a, b = programs
    dice = random.Random(seed)
    b.start("standby")
    a.start("primary")
    assert a.answer() == "ok"
    assert b.answer() == "ok"
    written = safe = 0
    for _ in range(dice.randrange(1, 5)):
        count = dice.randrange(1, 60)
        a.tell(f"write {count}")
        written += count
        time.sleep(dice.random() * 0.02)
        what = dice.choice(("helper", "standby", "nothing", "wait"))
        word, *rest = a.answer().split()
        assert word == "ok", rest
        assert int(rest[1]) == written
        if what == "helper":
            a.tell("write 20")
            written += 20
            time.sleep(dice.random() * 0.01)
            if int(rest[2]):
                os.kill(int(rest[2]), signal.SIGKILL)
            a.answer()
        elif what == "standby":
            b.kill()
            b.start("standby")
            assert b.answer() == "ok"
        elif what == "wait":
            safe = a.state("safe 1")[1]
    a.tell("write 1000")
    time.sleep(dice.random() * 0.1)
    a.kill()
    end = time.monotonic() + 10
    value = b.state("promote")[1]
    assert time.monotonic() < end
    assert safe <= value <= written + 1000
    assert b.state("write 1")[1] == value + 1
    b.state("safe 0")
    # The old one comes back and gets exactly that.
    a.start("auto")
    assert a.answer() == "ok"
    b.state("safe 1")
    assert a.state("advance")[1] == value + 1


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kills_of_the_whole_primary(programs: tuple[Program, Program], seed: int) -> None:
    """The primary's machine dies, helper included, and starts again, many times."""
    a, b = programs
    dice = random.Random(1000 + seed)
    b.start("standby")
    a.start("primary")
    assert a.answer() == "ok"
    assert b.answer() == "ok"
    value = 0
    for _ in range(3):
        helper = a.helper()
        a.state("write 20")
        safe = a.state("safe 1")[1]
        assert safe == value + 20
        a.tell("write 500")
        time.sleep(dice.random() * 0.05)
        if helper:
            os.kill(helper, signal.SIGKILL)
        a.kill()
        a.start("primary")
        assert a.answer() == "ok"
        value = a.state("write 0")[1]
        assert safe <= value <= safe + 500
    a.state("safe 1")
    assert b.state("advance")[1] == value


def test_a_promoted_backup_hands_its_image_to_a_command(
    programs: tuple[Program, Program], tmp_path: Path
) -> None:
    a, b = programs
    command = f"{sys.executable} -m pyhac.commands check $HAC_IMAGE > {tmp_path}/check; exit 5"
    serve = subprocess.Popen(
        [
            sys.executable, "-m", "pyhac.commands", "backup", "serve", "--image", str(b.image),
            "--listen", f"127.0.0.1:{b.port}", "--on-promote", command,
        ],
        stderr=b.log.open("w"),
    )  # fmt: skip
    a.start("primary")
    assert a.answer() == "ok"
    a.state("write 30")
    epoch, _ = a.state("safe 1")
    promote = [sys.executable, "-m", "pyhac.commands", "backup", "promote"]
    subprocess.run([*promote, f"127.0.0.1:{b.port}"], check=True, timeout=30)
    assert serve.wait(30) == 5
    found = (tmp_path / "check").read_text()
    assert "sound" in found
    assert f"epoch       {epoch} " in found
    assert "no process" in found
    # The image, opened by a program.
    b.start("primary")
    assert b.answer() == "ok"
    assert b.state("write 1")[1] == 31


def test_damage_on_the_way(programs: tuple[Program, Program]) -> None:
    """Flipped, lost and repeated bytes: libhac refuses what came of it."""
    a, b = programs
    proxy = Proxy(b.port)
    a.peer = proxy.port
    dice = random.Random(9)

    def damage(data: bytes) -> bytes | None:
        at = dice.randrange(len(data))
        match dice.randrange(80):
            case 0:
                return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]
            case 1:
                return data[:at]
            case 2:
                return data + data[at:]
            case 3:
                return None
        return data

    proxy.damage = damage
    b.start("standby")
    a.start("primary")
    assert a.answer() == "ok"
    for _ in range(150):
        a.state("write 5")
        time.sleep(0.02)
    proxy.damage = lambda data: data
    assert a.state("safe 1")[1] == 750
    assert b.answer() == "ok"
    assert b.state("advance")[1] == 750
    events = b.log.read_text()
    assert sum(events.count(f'"{event}"') for event in ("dropped", "refuses", "lost")) > 3
