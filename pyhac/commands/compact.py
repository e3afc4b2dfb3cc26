# SPDX-License-Identifier: MIT
"""hac compact: make an image small."""

from pyhac import _native

from .base import GOOD, ImageCommand, print_json, size_text


class Compact(ImageCommand):
    name = "compact"
    summary = "replace an image's base and journal by a new base"
    description = (
        "Replace base and journal of an image that no program has open by a new base of its\n"
        "last epoch. A crash meanwhile leaves either the old or the new one."
    )
    example = "hac compact orders.hac"
    exit_codes = "0 done, 1 damaged (nothing was changed), 2 wrong usage, no image there, or in use"

    def run(self) -> int:
        path = self.path
        before = _native.check_image(path)
        _native.compact_image(path)
        after = _native.check_image(path)
        was, now = (each.base_bytes + each.journal_bytes for each in (before, after))
        if self.options.json:
            print_json({"image": self.options.image, "before": was, "after": now})
        else:
            print(f"{self.options.image}: {size_text(was)} before, {size_text(now)} now")
        return GOOD
