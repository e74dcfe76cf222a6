#!/usr/bin/env python
"""Runs Django's commands for the demo shop."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_shop.settings")
    execute_from_command_line(sys.argv)
