"""Forks of the test's own process."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable


def fork(run: Callable[[], object]) -> int:
    """Fork; the child calls `run` and exits with 0, or with 1 if that raised. Return its pid.

    The child never returns into pytest.
    """
    pid = quiet_fork()
    if pid == 0:
        status = 1
        try:
            run()
            status = 0
        except BaseException:  # noqa: BLE001  # nothing may leave the child but its exit
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def quiet_fork() -> int:
    """Fork as `os.fork` does. The child must leave by `os._exit`: it never returns into pytest."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads, and pytest-xdist has one; the child does without.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def exit_status(pid: int) -> int:
    """Wait for a child and return how it ended, as `os.waitpid` tells."""
    return os.waitpid(pid, 0)[1]
