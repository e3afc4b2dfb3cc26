# SPDX-License-Identifier: MIT
"""Where a primary sends its journal."""

from abc import ABC, abstractmethod
from collections import deque
from typing import NamedTuple


class Lag(NamedTuple):
    """What a sink has not acknowledged yet."""

    transactions: int
    bytes: int
    seconds: float


class Acknowledged(NamedTuple):
    """Everything before frame ``sequence`` is safe there; the last whole epoch in it."""

    generation: int
    sequence: int
    epoch: int


class Sink(ABC):
    """One receiver. It works in tasks of its own and never slows the drainer down."""

    name: str
    connected: bool = False
    sent_bytes: int = 0
    failures: int = 0
    trouble: str = ""
    pace: float = 0.0
    """Seconds that frames are to be apart, so that it keeps up."""

    @abstractmethod
    def start(self) -> None:
        """Begin to send, from where the receiver is; go on until closed."""

    @property
    @abstractmethod
    def position(self) -> Acknowledged | None:
        """What it has acknowledged; None: nothing heard yet."""

    @abstractmethod
    def lag(self) -> Lag: ...

    @abstractmethod
    async def close(self, seconds: float) -> None:
        """Send what can be sent in so many seconds, then stop."""


class Ages:
    """When which epoch was first seen written: for the lag in seconds."""

    STEP, MOST = 0.01, 20_000

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=self.MOST)

    def note(self, now: float, epoch: int) -> None:
        if self._seen and (epoch <= self._seen[-1][1] or now - self._seen[-1][0] < self.STEP):
            return
        self._seen.append((now, epoch))

    def age(self, now: float, acknowledged: int, newest: int) -> float:
        """How long the oldest epoch that is not acknowledged has been waiting."""
        if acknowledged >= newest:
            return 0.0
        low, high = 0, len(self._seen)
        while low < high:
            middle = (low + high) // 2
            if self._seen[middle][1] > acknowledged:
                high = middle
            else:
                low = middle + 1
        if low == len(self._seen):
            # Noted together with one that is acknowledged.
            return now - self._seen[-1][0] if self._seen else 0.0
        return now - self._seen[low][0]
