"""The catalog's tables, step by step."""

from __future__ import annotations
