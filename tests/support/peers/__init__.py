"""Programs of others that read our output, built or installed once."""

from __future__ import annotations
