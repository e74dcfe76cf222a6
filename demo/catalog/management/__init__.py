"""The catalog's own commands."""

from __future__ import annotations
