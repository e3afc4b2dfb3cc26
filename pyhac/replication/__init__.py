# SPDX-License-Identifier: MIT
"""The helper's program and the backup: peers, roles, sinks, all that knows the network."""
