# SPDX-License-Identifier: MIT
"""What hypercall-patch/build, boot and xen-deb are made of."""
