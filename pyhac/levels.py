# SPDX-License-Identifier: MIT
"""How safe an ended transaction is, and what has become of one."""

import enum
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, order=True, slots=True, repr=False)
class Level:
    """How safe an ended transaction is. Levels compare: a later one is safer.

    ``Level.RING``      in the queue to the drainer
    ``Level.JOURNAL``   in the journal, synced: survives power loss
    ``Level.BACKUP(k)`` acknowledged by k backups: survives the machine

    Source: enum hac_level_kind in hac.h.
    """

    kind: int
    count: int = 0

    RING: ClassVar["Level"]
    JOURNAL: ClassVar["Level"]

    @classmethod
    def BACKUP(cls, count: int = 1) -> "Level":
        """Acknowledged by ``count`` backups; at least one."""
        if count < 1:
            raise ValueError(f"Level.BACKUP({count}): at least one backup is needed")
        return cls(3, count)

    def __repr__(self) -> str:
        return {1: "Level.RING", 2: "Level.JOURNAL"}.get(self.kind, f"Level.BACKUP({self.count})")


Level.RING = Level(1)
Level.JOURNAL = Level(2)


class Role(enum.StrEnum):
    """Who may write. Equal to its name: ``ctx.role == "standby"``.

    Source: enum hac_role in hac.h.
    """

    AUTO = "auto"
    """Ask the peers: standby if one is primary, or is ahead."""
    PRIMARY = "primary"
    STANDBY = "standby"


class Status(enum.Enum):
    """What has become of a transaction."""

    NEW = "new"
    """Made, not entered yet."""
    OPEN = "open"
    """Entered: writes belong to it."""
    ENDED = "ended"
    """It has an epoch."""
    ABORTED = "aborted"
    """Every byte is as it was before."""
    IN_DOUBT = "in doubt"
    """It has an epoch, and the level that was waited for was not reached."""


def checked_level(level: object) -> Level | None:
    """``level`` if it is one or None; TypeError otherwise."""
    if level is None or isinstance(level, Level):
        return level
    raise TypeError(f"level must be Level.RING, Level.JOURNAL or Level.BACKUP(k), not {level!r}")
