"""This process: whose it is, what interrupts it, how it writes without waiting."""

from __future__ import annotations
