"""Where code is: frames, locations, the text of stacks, crash dumps."""

from __future__ import annotations
