# SPDX-License-Identifier: MIT
"""Ending tasks."""

import asyncio


async def stop(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks until they are over, whatever comes of them.

    Once may not do: before Python 3.12 asyncio.wait_for(), which nats-py builds upon,
    forgets a cancellation that comes together with what it waits for.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.2)
    for task in tasks:
        if not task.cancelled():
            task.exception()
