"""What show.py is made of: the visitor, the lines and the screen."""

from __future__ import annotations
