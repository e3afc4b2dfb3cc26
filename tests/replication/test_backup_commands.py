# SPDX-License-Identifier: MIT
"""hac backup, hac top, hac keys, and the metrics."""

import json
import os
import re
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.replication.nodes import PRIMARY, STANDBY, Make, eventually, free_port


def hac(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "pyhac.commands", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_backup_that_is_promoted_runs_its_command(machines: Make, tmp_path: Path) -> None:
    a, b = machines("a", "b")
    told = tmp_path / "told"
    # The image must be free: whoever gets the lock prints what it was told.
    command = (
        f"flock -n {b.image}/lock true && "
        f'echo "$HAC_IMAGE $HAC_GENERATION $HAC_EPOCH" > {told}; exit 7'
    )
    b.serve("--on-promote", command)
    eventually(lambda: b.status()["state"] == "standby")
    a.start(PRIMARY)
    a.hear()
    a.push(5)
    eventually(lambda: b.status()["epoch"] == 5)
    out = hac("backup", "promote", f"127.0.0.1:{b.port}")
    assert "generation" in out
    assert b.process is not None
    assert b.process.wait(10) == 7
    assert told.read_text().split() == [str(b.image), "1000000", "5"]


def test_a_backup_without_an_image_is_not_promoted(machines: Make) -> None:
    (b,) = machines("b")
    b.serve()
    eventually(lambda: b.status()["state"] == "standby")
    assert "image" in hac("backup", "promote", f"127.0.0.1:{b.port}", code=1)
    assert b.status()["state"] == "standby"


def test_status(machines: Make) -> None:
    a, b = machines("a", "b")
    b.serve()
    a.start(PRIMARY)
    a.hear()
    a.push(5, 1000)
    eventually(lambda: a.status()["sinks"][0]["epoch"] == 5)
    address = f"127.0.0.1:{a.port}"
    status = json.loads(hac("backup", "status", address, "--json"))
    assert (status["state"], status["generation"], status["epoch"]) == ("primary", 1, 5)
    assert status["sinks"][0]["transactions"] == 0
    text = hac("backup", "status", address)
    assert re.search(r"state +primary", text)
    assert f"127.0.0.1:{b.port}" in text
    assert re.search(r"follows +a", hac("backup", "status", f"127.0.0.1:{b.port}"))
    b.kill()
    a.push(3, 1000)
    eventually(lambda: not a.status()["sinks"][0]["connected"])
    eventually(lambda: a.status()["sinks"][0]["transactions"] == 3)
    assert 1000 <= a.status()["sinks"][0]["bytes"] < 1500
    assert "127.0.0.1" in hac("backup", "status", f"127.0.0.1:{b.port}", code=1)


def test_top(machines: Make) -> None:
    (a,) = machines("a")
    a.start(PRIMARY)
    a.hear()
    text = hac("top", f"127.0.0.1:{a.port}", "--once")
    assert "transactions/s" in text
    line = json.loads(hac("top", f"127.0.0.1:{a.port}", "--once", "--json"))
    assert line["transactions_per_second"] == 0


def test_metrics(machines: Make) -> None:
    a, b = machines("a", "b")
    port = free_port()
    a.extra = ["--metrics", f"127.0.0.1:{port}"]
    b.start(STANDBY)
    a.start(PRIMARY)
    a.hear()
    a.push(5)
    eventually(lambda: a.status()["sinks"][0]["epoch"] == 5)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        page = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "hac_epoch 5\n" in page
    assert 'hac_state{state="primary"} 1\n' in page
    assert f'hac_sink_lag_transactions{{sink="127.0.0.1:{b.port}"}} 0\n' in page
    for line in page.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"\})? [0-9.]+', line), line
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)


def test_keys(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = json.loads(
        hac("keys", str(folder), "--name", "a", "--host", "a", "--data-key", "--json")
    )
    assert made == {"tls": str(folder / "a"), "data_key": str(folder / "data.key")}
    assert re.fullmatch(r"[0-9a-f]{64}\n", (folder / "data.key").read_text())
    for secret in (folder / "data.key", folder / "ca-key.pem", folder / "a" / "key.pem"):
        assert stat.S_IMODE(os.stat(secret).st_mode) == 0o600
    authority = (folder / "ca.pem").read_bytes()
    hac("keys", str(folder), "--name", "b", "--host", "127.0.0.1")
    assert (folder / "ca.pem").read_bytes() == authority
    assert (folder / "b" / "ca.pem").read_bytes() == authority
    # Nothing is ever overwritten.
    hac("keys", str(folder), "--name", "a", "--host", "a", code=2)
    hac("keys", str(folder), "--data-key", code=2)
    hac("keys", str(folder), "--name", "../x", "--host", "a", code=2)
    hac("keys", str(folder), code=2)


def test_a_helper_starts_quickly_and_without_numpy() -> None:
    script = "import sys, pyhac.replication.helper; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
