"""Worker classes of a site's own, under names that say nothing of how they run requests."""

from __future__ import annotations

from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker


class Ours(ThreadWorker):
    """Threads."""


class Mine(SyncWorker):
    """One request at a time."""
