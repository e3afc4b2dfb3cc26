# SPDX-License-Identifier: MIT
"""The command line: `python -m microbench COMMAND`."""

import argparse
import sys

from microbench import advise, advise_check, bench, compare, run, xen, xen_inside
from microbench.report import commands as report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m microbench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (run, report, compare, advise, advise_check, bench, xen, xen_inside):
        module.add_command(commands)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


if __name__ == "__main__":
    sys.exit(main())
