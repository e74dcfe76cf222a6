"""The canonical event and its encoders: fields, logfmt, JSON, redaction, output."""

from __future__ import annotations
