# SPDX-License-Identifier: MIT
"""The paper's own numbers, beside Table 2 (table2.py) all that is typed in.

Lee, Krishnakumar, Krishnan, Singh, Yajnik: Hypervisor-Assisted Application
Checkpointing in Virtualized Environments, DSN 2011. Sections V and VI.
"""

PT_OVER_PTXEN = 10.0  # figure 6, V.A
EMUL_OVER_EMULXEN = 4.0  # figure 7, V.B
BREAK_EVEN_USER, BREAK_EVEN_XEN = 5.0, 1.3  # WPP; figure 8, V.C
SCAN_PER_PAGE, SCAN_PER_MB = 0.0625, 2.5  # figure 9, V.D; their unit is not given
OVERALL = (4.0, 10.0)  # figure 10, V.E
MPROTECT_UNDER_XEN = 4.0  # II.D: times as slow as natively

EMULXEN_UP_TO, EMULXEN_MEAN = 4.0, 3.5  # figure 12, VI.A
PTXEN_UP_TO, PTXEN_MEAN = 13.0, 11.4
EMULXEN_UP_TO_5, PTXEN_UP_TO_5 = 4.0, 13.0  # figure 14, VI.B
OPERATIONS = 10_000  # VI
AGGREGATED = 5  # operations in a transaction; the gain of page tracking, VI.B

PAGE_BYTES_MB = (100.0, 1000.0)  # "of the order of 100s of MB"; figure 15, VI.C
EMUL_BYTES_MB = 2.0  # "in most cases less than"; figure 16
TREE_INSERT_MB = 56.0
EMUL_COPY_MS, EMUL_COPY_MEAN_MS = 5.0, 1.0  # "in most cases less than"; figure 17
PAGE_COPY_MS = (10.0, 80.0)
NET_PTXEN, NET_EMULXEN = 8.0, 4.0  # figure 18

# Figure 11's list in the text: usual order, and where Emul is dearer than PT.
USUAL = ("queue", "list", "heap", "splay", "aa")
EMUL_DEARER = ("hashquad insert", "bin insert", "tree insert")
