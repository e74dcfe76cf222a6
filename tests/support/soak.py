"""Whether the long versions of the tests run (`make soak`), or the short ones."""

from __future__ import annotations

import os

IS_SOAK = os.environ.get("OTEL_CANONICAL_SOAK") == "1"
