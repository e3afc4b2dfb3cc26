# SPDX-License-Identifier: MIT
"""python -m examples.datastructs: keys kept in an image from one call to the next."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed")

ROOT = Path(__file__).resolve().parents[2]


def test_keys_stay_from_call_to_call(image: Path) -> None:
    def call(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "examples.datastructs", str(image), *words]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert call("list", "insert", "5", "3", "-8") == (0, "list: 3 keys: 5, 3, -8\n")
    assert call("queue", "insert", "7") == (0, "queue: 1 keys: 7\n")
    code, said = call("list", "insert", "1", "99999999999")
    assert code == 1
    assert "32 bits" in said
    assert call("list", "delete", "4", "5") == (1, "False True\nlist: 2 keys: 3, -8\n")
