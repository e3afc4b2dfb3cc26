# SPDX-License-Identifier: MIT
"""The lease of a pair: opt-in, for promotion without anybody's command.

With --lease S on both, a standby that has heard nothing from its primary for S seconds
promotes itself, and a primary stops (is fenced) S/2 after it *sent* the last heartbeat
that was answered. The standby heard that heartbeat after it was sent, and waits for S
from then on: so the primary has stopped long before. Hence, too: losing the standby
stops the primary.

Clocks: CLOCK_BOOTTIME, which goes on while a machine sleeps.
"""

import time

SHORTEST = 1.0


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Renewal:
    """The primary's side."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._answered: float | None = None

    def renew(self, sent: float) -> None:
        """What was sent then has been answered."""
        self._answered = max(self._answered or 0.0, sent)

    def left(self) -> float | None:
        """Seconds in which this node may still lead. None: no end, for it leads
        because the other one's lease ended, and that one has not followed yet."""
        return None if self._answered is None else self._answered + self.seconds / 2 - now()


class Hearing:
    """The standby's side. It waits for nobody that it has never followed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._heard: float | None = None

    def hear(self) -> None:
        self._heard = now()

    def again(self) -> None:
        """Leave was given to one that may have been followed before."""
        if self._heard is not None:
            self.hear()

    def left(self) -> float | None:
        """Seconds after which the primary certainly leads no more; None: no say."""
        return None if self._heard is None else self._heard + self.seconds - now()
