"""What the console script reads lines with: one module per command, and the loader that they share."""

from __future__ import annotations
