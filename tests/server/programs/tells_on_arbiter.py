"""A Gunicorn configuration whose arbiter, when it leaves, writes down what it has become.

The file TOLD gets a JSON object: modules imported, Python threads, the tracer provider.
"""

from __future__ import annotations

import json
import os
import sys
import threading

control_socket_disable = True  # newer Gunicorns have a thread for it in the arbiter


def on_exit(server):
    from opentelemetry import trace

    with open(os.environ["TOLD"], "w") as file:
        json.dump(
            {
                "pid": os.getpid(),
                "modules": sorted(sys.modules),
                "threads": [thread.name for thread in threading.enumerate()],
                "provider": trace._TRACER_PROVIDER is not None,
            },
            file,
        )
