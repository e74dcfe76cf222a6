"""Running pools, read from outside: found, read, asked for their stacks, shown."""

from __future__ import annotations
