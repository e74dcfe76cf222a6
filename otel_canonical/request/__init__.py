"""One request: its scope, its facts, and the event that is composed of them."""

from __future__ import annotations
