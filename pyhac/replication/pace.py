# SPDX-License-Identifier: MIT
"""How far apart a primary's frames are to be, so that its backup keeps up.

A backup syncs each frame before it looks at the next one: it spends about as long on a
small frame as on a large one. A primary whose disk is a little faster would leave it
behind, frame by frame, until the lag is seconds; with fewer and larger frames it is not.
So a backup says how many frames wait for it, and this rises while there are more than
FEW (up to MOST seconds), and falls back to 0 when there are none.
"""

LEAST, MOST = 0.001, 0.020
RISE, FALL = 2.0, 0.95
FEW = 2
"""So many may wait: they came while it synced."""


class Pace:
    """Of one backup. ``seconds``: at least so far apart."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def waits(self, frames: int) -> None:
        """So many frames were waiting as it acknowledged others."""
        if frames > FEW:
            self.seconds = min(max(self.seconds * RISE, LEAST), MOST)
        elif not frames:
            self.seconds *= FALL
            if self.seconds < LEAST / 2:
                self.seconds = 0.0
