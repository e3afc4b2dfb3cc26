# SPDX-License-Identifier: MIT
"""The helper's program and the backup: peers, roles, sinks, all that knows the network.

A process runs one :class:`~pyhac.replication.node.Node`: a keeper with its image, a
listener, and as primary a sink for each peer. Nothing here imports numpy: a helper
is to be there before its context has finished opening.
"""
