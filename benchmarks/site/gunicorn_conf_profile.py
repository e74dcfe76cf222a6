"""A Gunicorn configuration that says where the time of a request goes, in the worker that serves it.

`PROFILE_TO` is where the statistics of requests 300 to 1300 go, as `python -m pstats` reads them.
"""

from __future__ import annotations

import cProfile
import os

FIRST, LAST = 300, 1300


def post_worker_init(worker):
    """Profile `Worker.handle`: all of a request but what an exporter's thread does later."""
    handle = worker.handle
    profile = cProfile.Profile()
    handled = []

    def handle_and_profile(*args):
        handled.append(None)
        number = len(handled)
        if not FIRST <= number < LAST:
            if number == LAST:
                profile.dump_stats(os.environ["PROFILE_TO"])
            return handle(*args)
        profile.enable()
        try:
            return handle(*args)
        finally:
            profile.disable()

    worker.handle = handle_and_profile
