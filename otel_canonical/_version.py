"""The version, in a file that the build reads without importing the package."""

from __future__ import annotations

__version__ = "0.1.0"
