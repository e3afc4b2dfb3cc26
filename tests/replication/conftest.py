# SPDX-License-Identifier: MIT
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import Machine, Make


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Make]:
    """Makes machines that are peers of each other, and stops them in the end."""
    made: list[Machine] = []

    def make(*names: str, extra: tuple[str, ...] = ()) -> list[Machine]:
        new = [Machine(tmp_path, name) for name in names]
        for machine in new:
            machine.peers = [other.port for other in new if other is not machine]
            machine.extra = list(extra)
        made.extend(new)
        return new

    yield make
    for machine in made:
        machine.kill()
        for line in machine.log.read_text().splitlines() if machine.log.exists() else []:
            assert "Traceback" not in line, machine.log.read_text()
