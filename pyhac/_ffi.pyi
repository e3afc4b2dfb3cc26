# SPDX-License-Identifier: MIT
# The extension that _build.py describes; _native.py gives it types.
from typing import Any

ffi: Any
lib: Any
