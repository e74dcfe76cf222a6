"""An application that cannot be imported."""

from __future__ import annotations

from no_such_package import application  # noqa: F401
