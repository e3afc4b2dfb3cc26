# SPDX-License-Identifier: MIT
"""Frames come as a backup can take them: a simulation of both sides' disks."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from pyhac.replication.pace import FEW, LEAST, MOST, Pace


def simulate(primary: float, backup: float, seconds: float, *, paced: bool) -> tuple[float, int]:
    """A primary that is never idle, and a backup; each needs so long to sync a frame. The
    longest wait of a frame in the second half of so many seconds, and the frames."""
    pace, now, frames, longest = Pace(), 0.0, 0, 0.0
    free = 0.0  # the backup has synced what it has
    done = deque[float]()  # when it will have synced each frame that is not acknowledged yet
    while now < seconds:
        frames += 1
        free = max(free, now) + backup
        done.append(free)
        if now > seconds / 2:
            longest = max(longest, free - now)
        gap = max(primary, pace.seconds if paced else 0.0)
        now += gap
        while done and done[0] <= now:
            done.popleft()
            pace.waits(max(0, len(done) - 1))  # one is being synced
    return longest, frames


@settings(deadline=None)
@given(st.floats(0.0005, 0.010), st.floats(0.0005, MOST / 2))
def test_a_backup_is_not_left_behind(primary: float, backup: float) -> None:
    longest, frames = simulate(primary, backup, 3.0, paced=True)
    assert longest < 30 * backup + MOST
    # And the primary is not held up for nothing.
    if backup < primary * 0.9:
        assert frames >= 3.0 / primary - 1


def test_without_it_one_would_be() -> None:
    assert simulate(0.001, 0.0012, 3.0, paced=False)[0] > 0.5
    assert simulate(0.001, 0.0012, 3.0, paced=True)[0] < 0.05


def test_rise_and_fall() -> None:
    pace = Pace()
    for waiting in (0, 1, FEW):
        pace.waits(waiting)
        assert pace.seconds == 0
    pace.waits(FEW + 1)
    assert pace.seconds == LEAST
    for _ in range(100):
        pace.waits(1000)
    assert pace.seconds == MOST
    pace.waits(1)
    assert pace.seconds == MOST
    for _ in range(100):
        pace.waits(0)
    assert pace.seconds == 0
