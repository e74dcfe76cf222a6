"""A Gunicorn configuration that writes what encodes for the exporters of a worker to `ENCODERS_TO`."""

from __future__ import annotations

import os
import pathlib
import sys


def post_worker_init(worker):
    """Look at every exporter that is loaded."""
    found = [
        type(getattr(module, name)).__name__
        for path, module in sorted(sys.modules.items())
        for name in ("encode_spans", "encode_logs")
        if path.startswith("opentelemetry.exporter.otlp.proto.")
        and path.endswith("exporter")
        and hasattr(module, name)
    ]
    pathlib.Path(os.environ["ENCODERS_TO"]).write_text(" ".join(found))
