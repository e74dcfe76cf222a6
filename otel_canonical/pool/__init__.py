"""The pool in shared memory: scoreboard, slots, counters, ledger, backlog."""

from __future__ import annotations
