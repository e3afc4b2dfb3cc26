# SPDX-License-Identifier: MIT
"""The flights demo, with fewer flights."""

import json
import os
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
    if "uffd" in disable:
        assert "uffd" not in result["engine"]


def test_a_wrong_figure_is_found(tmp_path: Path) -> None:
    code, result = run_demo("--kills", "0", "--image", str(tmp_path))
    assert code == 0
    carriers = result["compared"]["carrier"] // 6
    with pyhac.open(tmp_path / "flights.hac", partial=True) as ctx:
        figures = ctx.array("carrier", (carriers, 6), "i8")
        with ctx.transaction():
            figures[3, 5] += 1
    code, result = run_demo("--kills", "0", "--image", str(tmp_path))
    assert code == 1
    (wrong,) = result["differences"]
    assert wrong["group"] == "carrier"
    assert wrong["figure"] == "distance"
    assert wrong["image"] == wrong["pandas"] + 1
