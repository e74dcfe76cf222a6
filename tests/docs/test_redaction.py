"""Every example of docs/REDACTION.md is shown as it says there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_canonical.event.redaction import RedactionPolicy

DOCUMENT = Path(__file__).parents[2] / "docs" / "REDACTION.md"
ROW = re.compile(r"^\| `(.*)` \| `(.*)` \|$")


def examples() -> list[tuple[str, str, str]]:
    """Return the rows of the tables whose first column is an example."""
    found, kind = [], ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("| in "):
            kind = "url" if "URL" in line else "text"
        elif not line.startswith("|"):
            kind = ""
        elif kind and (row := ROW.match(line)):
            found.append((kind, row[1], row[2]))
    return found


@pytest.mark.parametrize(("kind", "text", "shown"), examples())
def test_example_is_shown_as_documented(kind: str, text: str, shown: str) -> None:
    """The document is what operators rely on."""
    policy = RedactionPolicy()
    assert (policy.url(text) if kind == "url" else policy.text(text)) == shown


def test_document_has_examples() -> None:
    """None is passed over because of how it is written."""
    assert len(examples()) == 26
