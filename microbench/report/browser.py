# SPDX-License-Identifier: MIT
"""A page as a headless browser sees it: errors, plots that are missing, what is too wide."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WIDTHS = (360, 1280)  # a phone's, and a screen's
TIMEOUT_S = 60

# Goes into a copy of the page, in front of everything. What it finds takes the page's place.
PROBE = """<script>
const complaints = [];
addEventListener("error", event => complaints.push(String(event.message || event.target.id)), true);
for (const kind of ["error", "warn"])
  console[kind] = (...words) => complaints.push(words.join(" "));
addEventListener("load", () => {
  const page = document.scrollingElement, images = [...document.images];
  const report = document.createElement("pre");
  report.textContent = JSON.stringify({
    complaints, inner: innerWidth, wide: page.scrollWidth, images: images.length,
    empty: images.filter(image => !image.naturalWidth).map(image => image.id),
    broad: images.filter(image => image.getBoundingClientRect().right > innerWidth)
      .map(image => image.id),
  });
  document.body.replaceChildren(report);
});
</script>
"""


class BrowserFailed(Exception):
    """The browser did not open the page; the message has what it said."""


def find() -> str | None:
    """$HAC_BROWSER, or the first that is installed."""
    return os.environ.get("HAC_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


def _command(browser: str, folder: str, width: int) -> list[str]:
    words = [browser, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    if os.geteuid() == 0:
        words.append("--no-sandbox")  # which it refuses to root
    words += [f"--user-data-dir={folder}/profile", f"--window-size={width},900"]
    return [*words, "--virtual-time-budget=10000", "--dump-dom", f"file://{folder}/page.html"]


def complaints(browser: str, page: Path, width: int) -> list[str]:
    """What is wrong with the page in a window so many pixels wide."""
    with tempfile.TemporaryDirectory() as folder:
        text = page.read_text()
        head = text.find("<head>") + len("<head>")
        (Path(folder) / "page.html").write_text(text[:head] + PROBE + text[head:])
        try:
            done = subprocess.run(
                _command(browser, folder, width),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BrowserFailed(f"{browser}: {error}") from error
    found = re.search(r"<pre>(\{.*\})</pre>", done.stdout, re.DOTALL)
    if not found:
        raise BrowserFailed(f"{browser} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return _judge(json.loads(unescape(found[1])), width, text.count("<img "))


def _judge(seen: dict[str, Any], width: int, images: int) -> list[str]:
    wrong = [f"the page complains: {each}" for each in seen["complaints"]]
    wrong += [f"image {each} is empty" for each in seen["empty"]]
    wrong += [f"image {each} is wider than the window" for each in seen["broad"]]
    if seen["inner"] != width:
        wrong.append(f"the window is {seen['inner']} pixels wide, not {width}")
    if seen["wide"] != seen["inner"]:
        wrong.append(f"the page is {seen['wide']} pixels wide")
    if seen["images"] != images:
        wrong.append(f"{seen['images']} of {images} images are there")
    return wrong
