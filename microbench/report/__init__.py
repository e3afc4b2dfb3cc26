# SPDX-License-Identifier: MIT
"""From result files to figures and one page, beside the paper's numbers."""
