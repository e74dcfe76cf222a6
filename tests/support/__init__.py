"""Helpers that tests share: servers, receivers, load, peers. No test module imports another one."""

from __future__ import annotations
