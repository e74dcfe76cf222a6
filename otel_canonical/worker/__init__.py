"""What runs in a worker: its parts joined, and its watchdog."""

from __future__ import annotations
