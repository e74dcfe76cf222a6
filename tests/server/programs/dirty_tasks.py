"""Work for Gunicorn's dirty workers (Gunicorn >= 25), which use Django as the site's workers do.

Gunicorn imports this in its arbiter, too: nothing here imports Django before there is work.
"""

from __future__ import annotations

import os

from gunicorn.dirty.app import DirtyApp


class Tasks(DirtyApp):
    """Says who does the work."""

    def init(self):
        import django

        os.environ["DJANGO_SETTINGS_MODULE"] = "asks_dirty_worker"
        django.setup()

    def work(self):
        from django.db import connection

        import otel_canonical

        otel_canonical.set("elsewhere", True)  # there is no request here
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return os.getpid()

    def __call__(self, action, *args, **kwargs):
        return self.work()
