# SPDX-License-Identifier: MIT
"""``hac helper`` and ``hac backup serve`` over the model: see model_keeper.py."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import model_keeper

sys.modules["pyhac.replication._keeper"] = model_keeper

from pyhac.replication import backup, helper  # noqa: E402
from pyhac.replication.arguments import add_node_arguments  # noqa: E402

if __name__ == "__main__":
    if sys.argv[1] == "helper":
        sys.exit(helper.main(sys.argv[2:]))
    parser = argparse.ArgumentParser()
    add_node_arguments(parser)
    parser.add_argument("--on-promote")
    sys.exit(backup.serve(parser.parse_args(sys.argv[2:])))
