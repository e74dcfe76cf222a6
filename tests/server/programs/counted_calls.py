"""A Gunicorn configuration that counts our own functions' calls in one request, once it is warm.

`COUNTED_REQUEST` is the number of the request that is counted; what was found goes to `COUNTED_TO`
as JSON: `{"python": ..., "builtin": ..., "names": [...]}`.
"""

from __future__ import annotations

import gc
import json
import os
import pathlib
import sys

import otel_canonical

_HERE = os.path.dirname(otel_canonical.__file__)

#: Run once a second, or in a request that takes long: not in each one.
_SELDOM = ("resident.py", "process_facts.py")


def post_worker_init(worker):
    """Count around `Worker.handle`: all that a request runs through."""
    handle = worker.handle
    handled = []

    def handle_and_count(*args):
        handled.append(None)
        if len(handled) != int(os.environ["COUNTED_REQUEST"]):
            return handle(*args)
        names, builtins = [], []

        def note(frame, event, argument):
            file = frame.f_code.co_filename
            if not file.startswith(_HERE) or file.endswith(_SELDOM):
                return
            if event == "call":
                names.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_code.co_name}")
            elif event == "c_call":
                builtins.append(argument.__name__)

        gc.disable()
        sys.setprofile(note)
        try:
            return handle(*args)
        finally:
            sys.setprofile(None)
            gc.enable()
            found = {"python": len(names), "builtin": len(builtins), "names": names}
            pathlib.Path(os.environ["COUNTED_TO"]).write_text(json.dumps(found))

    worker.handle = handle_and_count
