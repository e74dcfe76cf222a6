"""What runs in Gunicorn's arbiter: hooks, deaths, the pool's samples, the reporter's process."""

from __future__ import annotations
