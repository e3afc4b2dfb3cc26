# SPDX-License-Identifier: MIT
"""hac check: is an image sound."""

from collections.abc import Iterator
from dataclasses import asdict

from pyhac import _native
from pyhac.info import ImageCheck

from .base import BAD, GOOD, ImageCommand, print_fields, print_json, size_text


class Check(ImageCommand):
    name = "check"
    summary = "read an image from end to end and say whether it is sound"
    description = (
        "Read an image from end to end, compare every checksum, and say whether it is sound.\n"
        "Nothing is changed. An unfinished end, which the next opening cuts, is reported\n"
        "with its bytes and epoch, and is not damage."
    )
    example = "hac check orders.hac"
    exit_codes = "0 sound, 1 damaged, 2 wrong usage or no image there"

    def run(self) -> int:
        found = _native.check_image(self.path)
        if self.options.json:
            print_json({"image": self.options.image, **asdict(found)})
        else:
            print_fields(_fields(found))
        return GOOD if found.sound else BAD


def _fields(found: ImageCheck) -> Iterator[tuple[str, object]]:
    yield "image", "sound" if found.sound else f"damaged: {found.detail}"
    if not found.sound:
        yield "damage", f"{found.file} at byte {found.offset}"
        if found.damage_epoch:
            yield "first epoch lost", found.damage_epoch
    if found.dropped_bytes:
        lost = f", from epoch {found.damage_epoch} on" if found.damage_epoch else ""
        yield (
            "end",
            f"{found.dropped_bytes} bytes{lost} are damaged or unfinished; opening cuts them",
        )
    yield "uuid", found.uuid
    yield "generation", found.generation
    yield "epoch", f"{found.epoch} (base: {found.base_epoch})"
    yield "areas", found.areas
    yield "base", size_text(found.base_bytes)
    yield (
        "journal",
        f"{size_text(found.journal_bytes)} in {found.segments} segment(s), "
        f"{found.frames} frame(s), {found.transactions} transaction(s)",
    )
    yield "open in", f"process {found.locked_by}" if found.locked_by else "no process"
