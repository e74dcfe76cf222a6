"""For async views that give up on what a thread is still at, whatever the machine's pace.

What is given up on calls a `Hold`, which has the view cancelled and holds the thread until the view lets
it go. So the view's next step happens while the thread is still inside, and what follows `let_go` when
it is out.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading

from asgiref.sync import sync_to_async

#: Only what fails takes it.
PATIENCE_S = 60


class Hold:
    """Cancels the task that made it, from the thread that it then holds."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._goes_on = threading.Event()

    def __call__(self):
        self._loop.call_soon_threadsafe(self._task.cancel)
        if not self._goes_on.wait(PATIENCE_S):
            raise TimeoutError("nobody let go")
        return 1

    async def let_go(self):
        """Return when the thread is out of what held it."""
        self._goes_on.set()
        # Behind it in its thread.
        await sync_to_async(lambda: None)()


async def give_up_on(function, *args, **kwargs):
    """Await a function in a thread until its `Hold` cancels that."""
    with contextlib.suppress(asyncio.CancelledError):
        await sync_to_async(function)(*args, **kwargs)
    if hasattr(asyncio.Task, "uncancel"):  # Python 3.11
        asyncio.current_task().uncancel()
