# SPDX-License-Identifier: MIT
"""The command hac, as its users meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pyhac
from pyhac.commands import COMMANDS, main

Hac = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hac() -> Hac:
    """Runs hac in a process of its own."""

    def runner(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "pyhac.commands", *arguments],
            env={**os.environ, "PYTHONPATH": str(Path(pyhac.__file__).parent.parent)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return runner


@pytest.fixture
def filled(image: Path) -> Path:
    """An image with two areas and ten transactions."""
    with pyhac.open(image) as ctx:
        a = ctx.array("a", 1000, "<i8")
        ctx.buffer("b", 10)
        for value in range(10):
            with ctx.transaction():
                a[value * 50 :] = value
    return image


def test_engines(hac: Hac) -> None:
    result = hac("engines")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0].split()[:2] == ["ENGINE", "WORKS"]
    listed = json.loads(hac("engines", "--json").stdout)
    assert [engine["name"] for engine in listed] == [engine.name for engine in pyhac.engines()]
    for engine in listed:
        assert f"{engine['name']} " in result.stdout


def test_check(hac: Hac, filled: Path) -> None:
    result = hac("check", filled)
    assert (result.returncode, result.stderr) == (0, "")
    assert "sound" in result.stdout
    found = json.loads(hac("check", filled, "--json").stdout)
    assert found["sound"] is True
    assert found["areas"] == 2
    assert found["locked_by"] == 0
    with pyhac.open(filled, partial=True):
        assert json.loads(hac("check", filled, "--json").stdout)["locked_by"] == os.getpid()


def test_check_finds_damage_and_cut_ends(hac: Hac, filled: Path) -> None:
    segment = max(filled.glob("journal.*"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-3])
    result = hac("check", filled)
    assert result.returncode == 0
    assert "opening cuts them" in result.stdout
    segment.write_bytes(whole[: len(whole) // 2] + b"\xff\x00\xff" + whole[len(whole) // 2 + 3 :])
    result = hac("check", filled)
    assert result.returncode == 1
    assert segment.name in result.stdout
    assert json.loads(hac("check", filled, "--json").stdout)["sound"] is False
    result = hac("log", filled)
    assert result.returncode == 1
    assert result.stderr.startswith("hac log: ")


def test_log(hac: Hac, filled: Path) -> None:
    result = hac("log", filled)
    assert (result.returncode, result.stderr) == (0, "")
    assert "'a'" in result.stdout
    assert "<i8[:]" in result.stdout
    assert "generation 1 begins" in result.stdout
    records = [json.loads(line) for line in hac("log", filled, "--json").stdout.splitlines()]
    assert {record["kind"] for record in records} >= {"generation", "layout", "transaction"}
    epochs = [r["epoch"] for r in records if r["kind"] == "transaction"]
    assert epochs == sorted(epochs)
    only = hac("log", filled, "--json", "--kind", "layout").stdout.splitlines()
    assert [json.loads(line)["name"] for line in only] == ["a", "b"]


def test_compact(hac: Hac, filled: Path) -> None:
    with pyhac.open(filled, readonly=True) as ctx:
        before = ctx.array("a").tobytes()
    result = hac("compact", filled)
    assert (result.returncode, result.stderr) == (0, "")
    sizes = json.loads(hac("compact", filled, "--json").stdout)
    assert sizes["after"] <= sizes["before"]
    with pyhac.open(filled, readonly=True) as ctx:
        assert ctx.array("a").tobytes() == before
    with pyhac.open(filled, partial=True):
        result = hac("compact", filled)
    assert result.returncode == 2
    assert str(os.getpid()) in result.stderr


@pytest.mark.parametrize("command", ["check", "log", "compact"])
def test_bad_paths_give_one_line(hac: Hac, command: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no image")
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (tmp_path / "missing", file, folder):
        result = hac(command, path)
        assert result.returncode in (1, 2), result
        assert result.stderr.startswith(f"hac {command}: "), result.stderr
        assert result.stderr.count("\n") == 1
        assert "Traceback" not in result.stderr
    assert list(folder.iterdir()) == []
    assert file.read_text() == "no image"


def test_wrong_usage(hac: Hac) -> None:
    for arguments in ((), ("nonsense",), ("check",), ("engines", "--nonsense"), ("log", "a", "b")):
        result = hac(*arguments)
        assert result.returncode == 2
        assert "usage: hac" in result.stderr


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as caught:
            main([command.name, "--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert f"example: hac {command.name}" in text
        assert "exit codes: 0 " in text
        assert "--json" in text


def test_version(hac: Hac) -> None:
    assert hac("--version").stdout == f"hac {pyhac.__version__}\n"


def test_broken_pipes_are_quiet(filled: Path) -> None:
    with pyhac.open(filled, partial=True) as ctx:
        a = ctx.array("a")
        for _ in range(3000):
            with ctx.transaction(level=pyhac.Level.RING):
                a[0] += 1
    pipe = '"$0" -P -m pyhac.commands log "$1" | head -1; echo ${PIPESTATUS[0]}'
    result = subprocess.run(
        ["bash", "-c", pipe, sys.executable, filled],
        env={**os.environ, "PYTHONPATH": str(Path(pyhac.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == "0"
