# SPDX-License-Identifier: MIT
"""Steps that can be watched, and programs whose output goes to a file until they fail."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import places

TAIL = 30  # lines of a failed program's log that are shown

MISSING, NO_APT, NO_FIT, NO_BUILD = 3, 4, 5, 6


class Failed(Exception):
    """A step that failed: what happened, for people, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    print(f"xen: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    print(f"xen: {what} ...", end="", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", file=sys.stderr, flush=True)
        raise
    print(f" {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def tail(log: Path, lines: int = TAIL) -> str:
    try:
        text = log.read_text(errors="replace")
    except OSError as failure:
        return f"  (no log: {failure})"
    return "\n".join("  " + line for line in text.rstrip().splitlines()[-lines:])


def run(
    command: Sequence[str | Path],
    log: Path,
    *,
    what: str,
    code: int = 1,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a program with its output at the end of a file; raise Failed with the tail of it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with log.open("ab") as file:
        file.write(f"$ {' '.join(words)}\n".encode())
        file.flush()
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=None if env is None else {**os.environ, **env},
                check=False,
            )
        except FileNotFoundError as failure:
            raise Failed(f"{what}: there is no {failure.filename}", MISSING) from failure
    if done.returncode:
        raise Failed(f"{what} failed ({done.returncode}); the end of {log}:\n{tail(log)}", code)


@contextmanager
def alone(what: str = "build") -> Iterator[None]:
    """One of these at a time in one build folder; a second one waits."""
    places.BUILD.mkdir(parents=True, exist_ok=True)
    with (places.BUILD / f"{what}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another {what} in this folder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
