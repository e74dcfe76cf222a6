"""The shop itself: its catalog, its pages and the services that it leans on."""

from __future__ import annotations
