"""A Gunicorn configuration that writes how many objects of ours a worker has to `OBJECTS_TO`.

After each request with the query string `tell`: a JSON object, by the name of their class.
"""

from __future__ import annotations

import collections
import gc
import json
import os
import pathlib


def post_request(worker, req, environ, resp):
    """Look at everything that the garbage collector looks at."""
    if req.query == "tell":
        kinds = (type(found) for found in gc.get_objects())
        ours = [kind.__name__ for kind in kinds if kind.__module__.startswith("otel_canonical.")]
        pathlib.Path(os.environ["OBJECTS_TO"]).write_text(json.dumps(collections.Counter(ours)))
