"""What Django tells of a request: route, view, user, queries, templates, caches."""

from __future__ import annotations
