# SPDX-License-Identifier: MIT
"""Measurements of what tracking costs; `python -m microbench --help`."""
