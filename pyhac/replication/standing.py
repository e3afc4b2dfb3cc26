# SPDX-License-Identifier: MIT
"""What a node must remember of its own doings beside the image: the file ``standing`` in
the image's directory. It goes with the image when a base takes its place.

``led``     the newest generation that was begun here. A primary elsewhere that began one
            of the same number, out of touch, has another history; its base must not
            take the place of ours unasked.
``fenced``  the generation that this node was told to yield to. It is no primary any more
            even if nobody can be reached who says so again.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

NAME = "standing"


class Standing(NamedTuple):
    led: int = 0
    fenced: int = 0


def read(image: str) -> Standing:
    """Nothing there: nothing remembered. ValueError: it is damaged."""
    path = Path(image, NAME)
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return Standing()
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name), int) for name in Standing._fields
    ):
        raise ValueError(f"{path} is damaged: see whether this image may be written, remove it")
    return Standing(found["led"], found["fenced"])


def note(image: str, *, led: int = 0, fenced: int = 0) -> None:
    """Durably; numbers only grow. Blocks."""
    before = read(image)
    after = Standing(max(before.led, led), max(before.fenced, fenced))
    if after == before:
        return
    path, new = Path(image, NAME), Path(image, NAME + ".tmp")
    with new.open("w") as file:
        json.dump(after._asdict(), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    directory = os.open(image, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
