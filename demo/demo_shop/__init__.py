"""The demo shop's project: settings, addresses and the two ways in."""

from __future__ import annotations
