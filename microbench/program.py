# SPDX-License-Identifier: MIT
"""The C programs of this folder as processes; their protocol is in serve.h."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from microbench.cells import NAIVE, Cell, Replay, Variant

ROOT = Path(__file__).resolve().parent.parent
UNAVAILABLE = 77


class Missing(Exception):
    """The C programs have not been built."""


class Unavailable(Exception):
    """The engine does not work here; the message has the reason."""


class ProgramFailed(Exception):
    """A program ended before its time; the message has what it said."""


def build_folder() -> Path:
    """Where everything is built: HAC_BUILD, or build/ in the project."""
    return ROOT / os.environ.get("HAC_BUILD", "build")


def executable(name: str) -> Path:
    folder = build_folder()
    for candidate in (folder / "c" / "microbench" / name, folder / "microbench" / name):
        if os.access(candidate, os.X_OK):
            return candidate
    raise Missing(
        f"there is no {name} in {folder}/c/microbench: run `make build`, or "
        "`cmake -S . -B build/c && cmake --build build/c`, "
        "or set HAC_BUILD to the folder that has c/microbench in it"
    )


def command(cell: Cell | Replay, variant: Variant) -> list[str]:
    naive = variant.engine == NAIVE
    words = [str(executable("naive_pt" if naive else "engine_bench")), *cell.arguments()]
    if not naive:
        words += ["--engine", variant.engine, "--delta", variant.delta, "--loop", variant.loop]
        words += [] if variant.twin else ["--no-twin"]
    return words


class Answer(NamedTuple):
    """What a program answers; serve.h says what it means."""

    ns: int
    pages: int
    words: int
    writes: int
    copy_ns: int
    copy_bytes: int


class Served:
    """One process that speaks the protocol of serve.h. Idle between calls of its methods."""

    def __init__(self, words: list[str], name: str) -> None:
        self.transactions = self.pages = self.words = 0
        self._name = name
        self._complaint = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 (close())
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaint,
            text=True,
            process_group=0,  # Ctrl-C is ours; it goes when its input ends
        )
        try:
            if self._answer() != "ready":
                raise ProgramFailed(f"{self._name} does not speak the protocol of serve.h")
        except BaseException:
            self.close()
            raise

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return line.strip()
        code = self._process.wait()
        self._complaint.seek(0)
        complaint = self._complaint.read().strip()
        if code == UNAVAILABLE:
            raise Unavailable(complaint)
        raise ProgramFailed(f"{self._name} ended with {code}: {complaint}")

    def _ask(self, line: str, answers: int = 1) -> list[Answer]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # _answer() knows why
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        return [Answer(*map(int, self._answer().split())) for _ in range(answers)]

    def run(self, transactions: int) -> int:
        """Run so many transactions; the nanoseconds that they took."""
        return self.stretch(transactions).ns

    def stretch(self, transactions: int) -> Answer:
        """The same, with all that they reported."""
        (answer,) = self._ask(f"run {transactions}")
        self.transactions += transactions
        self.pages += answer.pages
        self.words += max(answer.words, 0)
        return answer

    def copy(self, transactions: int) -> Answer:
        """Run so many one by one, and copy the result of each."""
        return self._ask(f"copy {transactions}")[0]

    def sample(self, transactions: Sequence[int], before: int) -> list[Answer]:
        """Run these of a trace (from 0 on), each after so many before it that are not
        measured, and copy the result of each."""
        numbers = " ".join(map(str, (before, *transactions)))
        return self._ask(f"sample {numbers}", len(transactions))

    def close(self, at_once: bool = False) -> None:
        if at_once:
            self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._complaint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(at_once=kind is not None)


class Program(Served):
    """One variant of one cell."""

    def __init__(self, cell: Cell | Replay, variant: Variant) -> None:
        super().__init__(command(cell, variant), f"{variant} ({cell})")
