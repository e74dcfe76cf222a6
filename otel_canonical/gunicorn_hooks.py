"""The way in without `opentelemetry-instrument`: one line in `gunicorn.conf.py`.

    from otel_canonical.gunicorn_hooks import *

The import itself installs everything; the module has no public names. Hook functions brought in by a
star import would be lost as soon as the file defines a hook of the same name. So our hooks are chained
around the user's after Gunicorn has read its configuration, as under `opentelemetry-instrument`. Using
both ways at once is the same as using one.
"""

from __future__ import annotations

from otel_canonical import assembly

__all__: list[str] = []

assembly.install(with_sdk=True)
