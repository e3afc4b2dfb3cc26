# SPDX-License-Identifier: MIT
"""Reading the journal of a real image: places, segments, compaction."""

import os
from pathlib import Path

import pytest

import pyhac
from pyhac.replication._keeper import Place
from pyhac.replication.frames import (
    Gone,
    Position,
    Reader,
    bytes_between,
    last_check,
    locate,
    segments,
)
from pyhac.replication.sink import Ages


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Three openings, so three segments; 30 transactions each."""
    path = tmp_path / "image"
    for _ in range(3):
        with pyhac.open(path) as ctx:
            area = ctx.array("a", 100, "i8")
            for _ in range(30):
                with ctx.transaction():
                    area[:] += 1
    return str(path)


def place(image: str, sequence: int) -> Place:
    last = segments(image)[-1]
    size = os.stat(os.path.join(image, f"journal.{last:08d}")).st_size
    return Place("", 1, 3, 2, 0, 90, 90, 0, 1, 1, sequence, last, size, 0, 0, 90, last, size, 0)


def count(image: str) -> int:
    """How many frames there are, by hac's own account: the next one's number less 1."""
    from pyhac import _native

    return _native.check_image(os.fsencode(image)).frames


def test_every_frame_can_be_found(image: str) -> None:
    total = count(image)
    assert segments(image) == [1, 2, 3]
    here = place(image, total + 1)
    found = [locate(image, here, sequence) for sequence in range(1, total + 2)]
    assert found[0] == (Position(1, 0), "")
    assert sorted(position for position, _ in found) == [position for position, _ in found]
    checks = [check for _, check in found[1:]]
    assert len(set(checks)) == total
    assert last_check(image, here) == checks[-1]
    for sequence in (0, total + 2, total + 100):
        with pytest.raises(Gone):
            locate(image, here, sequence)


def test_reading_from_anywhere_gives_the_rest(image: str) -> None:
    total = count(image)
    here = place(image, total + 1)
    end = Position(here.segment, here.offset)
    paths = [Path(image) / f"journal.{segment:08d}" for segment in segments(image)]
    whole = b"".join(path.read_bytes() for path in paths)
    for sequence in range(1, total + 2, 7):
        start, _ = locate(image, here, sequence)
        reader = Reader(image, start)
        read = b""
        while data := reader.read(end, 1000):
            read += data
        assert whole.endswith(read)
        assert len(read) == bytes_between(image, start, end)
        reader.close()


def test_a_removed_segment_is_gone(image: str) -> None:
    here = place(image, count(image) + 1)
    os.unlink(os.path.join(image, "journal.00000002"))
    reader = Reader(image, Position(1, 0))
    end = Position(here.segment, here.offset)
    assert reader.read(end, 1 << 20)
    with pytest.raises(Gone):
        reader.read(end, 1 << 20)
    reader.close()


def test_damage_is_never_taken_for_a_place(image: str) -> None:
    here = place(image, count(image) + 1)
    path = Path(image) / "journal.00000002"
    data = bytearray(path.read_bytes())
    for offset in range(0, 128, 4):
        path.write_bytes(bytes([*data[:offset], data[offset] ^ 0xFF, *data[offset + 1 :]]))
        for sequence in range(1, here.sequence, 5):
            try:
                position, _ = locate(image, here, sequence)
            except Gone:
                continue
            assert 1 <= position.segment <= 3


def test_ages() -> None:
    ages = Ages()
    for second in range(100):
        ages.note(float(second), second * 10)
    assert ages.age(100.0, 990, 990) == 0.0
    assert ages.age(100.0, 500, 990) == 49.0
    assert ages.age(100.0, 505, 990) == 49.0
    assert ages.age(100.0, 0, 990) == 99.0
    assert Ages().age(5.0, 0, 10) == 0.0
