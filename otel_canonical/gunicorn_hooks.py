"""The other way in, for who can't use `opentelemetry-instrument`: one line in `gunicorn.conf.py`.

    from otel_canonical.gunicorn_hooks import *

Importing this module is the act; it exports nothing. Hook functions that a star import brings in are
lost as soon as the file defines a hook of the same name. So our hooks are chained around the user's
when Gunicorn has read its configuration, as under `opentelemetry-instrument`; both ways at once are
one.
"""

from __future__ import annotations

from otel_canonical import assembly

__all__: list[str] = []

assembly.install(with_sdk=True)
