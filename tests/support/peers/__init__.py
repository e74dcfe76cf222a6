"""Programs that we did not write, built or installed once, to check our output against."""

from __future__ import annotations
