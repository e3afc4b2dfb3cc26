# SPDX-License-Identifier: MIT
"""``python -m pyhac.replication`` is ``hac helper``."""

import sys

from .helper import main

if __name__ == "__main__":
    sys.exit(main())
