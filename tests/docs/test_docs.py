"""The documents match the code: tables, names, examples and links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import otel_canonical
from otel_canonical import settings
from otel_canonical.event import fields, logfmt
from otel_canonical.event.event import EventType
from otel_canonical.event.registry import faults

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "integrations/*.md",
        "demo/*.md",
        "benchmarks/*.md",
        "tests/*.md",
    )
    for path in REPOSITORY.glob(pattern)
)
#: Without the one that names the keys of other systems, too.
ABOUT_US = [document for document in DOCUMENTS if document.name != "MIGRATING.md"]

LINE = re.compile(r"<!-- line -->\n```text\n(.*?)\n```", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
CODE = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"OTEL_PYTHON_CANONICAL_[A-Z_]+")
MAKE = re.compile(r"(?:`|\$ )make ([a-z][a-z-]*)")
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PREFIXES = sorted({field.key.partition("_")[0] for field in fields.FIELDS if "_" in field.key})
#: nginx's directive.
OTHERS = {"log_format"}
MODULES = {path.stem for path in (REPOSITORY / "otel_canonical").rglob("*.py")}
SETTINGS = {setting.name for setting in settings.described()}
KEY = re.compile(rf"`((?:{'|'.join(PREFIXES)})_[a-z_]+)(?:=[^`]*)?`")


def name_of(path: Path) -> str:
    """Return a document's path as people write it."""
    return str(path.relative_to(REPOSITORY))


def is_field(key: str) -> bool:
    """Return whether a line may have this key."""
    patterns = [re.sub("<[a-z]+>", "[A-Za-z0-9_.]+", field.key) for field in fields.PATTERNS]
    return key in {field.key for field in fields.FIELDS} or any(
        re.fullmatch(pattern, key) for pattern in patterns
    )


def example_lines() -> list[str]:
    """Return the lines that documents show, unwrapped."""
    return [
        " ".join(rows.splitlines())
        for document in DOCUMENTS
        for rows in LINE.findall(document.read_text())
    ]


def test_tables_are_what_the_code_says() -> None:
    """Fields, settings and modules: `make docs` would change nothing."""
    check = [sys.executable, str(REPOSITORY / "docs" / "generate.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_variables_exist(document: Path) -> None:
    """Every variable that a document names is a setting."""
    known = {settings.variable_of(setting.name) for setting in settings.described()}
    named = {name.rstrip("_") for name in VARIABLE.findall(document.read_text())}
    assert named <= known | {settings.PREFIX.rstrip("_")}


@pytest.mark.parametrize("document", ABOUT_US, ids=name_of)
def test_named_keys_exist(document: Path) -> None:
    """Every key that a document names is a field."""
    named = set(KEY.findall(CODE.sub("", document.read_text()))) - MODULES - SETTINGS - OTHERS
    kinds = {kind.value for kind in EventType}
    assert {key for key in named if not is_field(key)} - kinds == set()


def test_example_lines_are_lines() -> None:
    """Each is logfmt as we write it, begins as every line does and has only keys that exist."""
    lines = example_lines()
    assert len(lines) >= 5
    for line in lines:
        parsed = logfmt.parse(line)
        assert logfmt.encode(parsed.items()) == line
        pairs = list(parsed.items())
        assert list(faults(EventType(parsed["event_type"]), pairs)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link is a file here, every `#part` of one a heading in it."""
    for link in LINK.findall(CODE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, part = link.partition("#")
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), link
        if part:
            headings = [
                re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
                for heading in HEADING.findall(path.read_text())
            ]
            assert part in headings, link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_python_examples_compile(document: Path) -> None:
    """No example has a typing error in it."""
    for example in PYTHON.findall(document.read_text()):
        compile(example, name_of(document), "exec")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_targets_exist(document: Path) -> None:
    """`make` knows every target that a document names."""
    targets = set(TARGET.findall((REPOSITORY / "Makefile").read_text()))
    assert set(MAKE.findall(document.read_text())) <= targets


def test_changelog_knows_this_version() -> None:
    """The version that is built has a place in the changelog."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.search(rf"^## .*{re.escape(otel_canonical.__version__)}", changelog, re.MULTILINE)
