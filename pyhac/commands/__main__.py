# SPDX-License-Identifier: MIT
"""``python -m pyhac.commands`` is ``hac``."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
