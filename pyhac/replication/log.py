# SPDX-License-Identifier: MIT
"""Structured log lines on stderr: one JSON object each."""

import contextlib
import json
import os
import sys
import time


class Log:
    """Writes ``{"time": ..., "event": ..., ...}``. Never fails: whoever reads may be gone."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields

    def __call__(self, event: str, **more: object) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{now % 1:.3f}"[2:] + "Z"
        line = {"time": stamp, "event": event, "pid": os.getpid(), **self.fields, **more}
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # One write: lines of several processes do not mix.
            os.write(sys.stderr.fileno(), (json.dumps(line, default=str) + "\n").encode())
