"""Writes the tables of the documents, and of a configuration, from the code that they describe.

Run `python docs/generate.py` to write them, `python docs/generate.py --check` to fail, with the
difference, if they are not what the code says. A table stands between two comments that name it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import alert_files
import integration_files

from otel_canonical import settings
from otel_canonical.event import fields, registry
from otel_canonical.reporter import instruments

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "otel_canonical"

#: Units as people write them, where UCUM's abbreviation is not that.
UNITS = {"By": "bytes", "1": "0 to 1"}


def fields_table() -> str:
    """Return every field of the event, in the order of the line, then the families of keys."""
    rows = [
        (
            f"`{field.key}`",
            f"`{field.attribute}`" if field.attribute else "(the span itself)",
            f"{field.type}, {UNITS.get(field.unit, field.unit)}" if field.unit else field.type,
            field.meaning,
        )
        for field in (*fields.FIELDS, *fields.PATTERNS)
    ]
    return table(("key on the line", "attribute of the root span", "type, unit", "meaning"), rows)


def metrics_table() -> str:
    """Return every metric of the pool."""
    rows = [
        (
            f"`{metric.name}`",
            f"{metric.instrument}, `{metric.unit}`",
            f"`{metric.attribute}`: {metric.values}" if metric.attribute else "",
            metric.meaning,
        )
        for metric in instruments.METRICS
    ]
    return table(("metric", "instrument, unit", "attribute", "meaning"), rows)


def settings_table() -> str:
    """Return every setting with its default."""
    rows = [
        (
            f"`{settings.variable_of(setting.name)}`",
            setting.metadata["shown"],
            setting.metadata["meaning"],
        )
        for setting in settings.described()
    ]
    return table(("variable", "default", "what it does"), rows)


def numeric_keys() -> str:
    """Return the regular expression of the pairs, as JSON, that are numbers and booleans by name."""
    known = [field.key for field in fields.FIELDS if field.type != "str"]
    families = [
        re.sub("<[a-z]+>", "[A-Za-z0-9_.]+", field.key)
        for field in fields.PATTERNS
        if field.type != "any"
    ]
    return numeric_pairs([*known, *families], r"-?[0-9]+(?:\.[0-9]+)?")


def numeric_pairs(keys: list[str], number: str) -> str:
    """Return a line of the configuration: a regular expression of pairs with such keys."""
    return f"""        regex: '"({"|".join(keys)})":"({number}|true|false)",'"""


def attributes_of_keys() -> str:
    """Return the statements that give what a line says the names that a log event has for it."""
    indent = " " * 10
    lines = [
        f'- set(log.attributes["{field.attribute}"], log.cache["{field.key}"])'
        f' where log.cache["{field.key}"] != nil'
        for field in fields.FIELDS
        if field.attribute
    ]
    known = "|".join(field.key for field in fields.FIELDS)
    rename = '- replace_all_patterns(log.cache, "key", "{}", "{}")'
    families = [field for field in fields.PATTERNS if not field.key.startswith(fields.APP_PREFIX)]
    calls = "|".join(f.key.partition("_")[2] for f in families if f.key.startswith("<"))
    lines += [
        f'- delete_matching_keys(log.cache, "^({known})$$")',
        rename.format(f"^{fields.APP_PREFIX}", "app."),
        *(
            rename.format(re.sub("<.+>", "", f"^{f.key}"), re.sub("<.+>", "", f.attribute))
            for f in families
            if f.key.endswith(">")
        ),
        # Any but the app's: RE2 can't say "not", so it is spelled out.
        rename.format(
            rf"^(a|ap|app|[^a].*|a[^p].*|ap[^p].*|app[^.].*)_({calls})$$", "canonical.$$1.$$2"
        ),
        rename.format("^([^.]+)$$", "canonical.$$1"),
        '- merge_maps(log.attributes, log.cache, "upsert")',
    ]
    return "\n".join(indent + line for line in lines)


def alerts_table() -> str:
    """Return every alert with what to do."""
    return table(("alert", "it says", "what to do"), alert_files.alert_rows())


def modules_table() -> str:
    """Return every module with the first sentence of its docstring, package by package from the top."""
    configuration = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    contracts = configuration["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    rows = [
        (
            str(number),
            f"[`{module.relative_to(PACKAGE)}`](../{module.relative_to(REPOSITORY)})",
            purpose_of(module),
        )
        for number, layer in enumerate(layers, 1)
        for name in re.findall(r"\w+", layer)
        for module in modules_of(name)
    ]
    return table(("layer", "module", "what it is for"), rows)


def modules_of(name: str) -> list[Path]:
    """Return the files of a package or, if it is a module, its one file."""
    package = PACKAGE / name
    if package.is_dir():
        return sorted(package.glob("*.py"))
    return [PACKAGE / f"{name}.py"]


def purpose_of(module: Path) -> str:
    """Return the first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    first = " ".join(docstring.partition("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


#: Stands in a document between two steps; a replacement would have its backslashes read by `re`.
PLACEHOLDER = "<!-- a table -->"

TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "docs/FIELDS.md": {"fields": fields_table},
    "docs/SETTINGS.md": {"settings": settings_table},
    "docs/METRICS.md": {"metrics": metrics_table},
    "docs/QUESTIONS.md": {"alerts": alerts_table},
    "docs/ARCHITECTURE.md": {"modules": modules_table},
    "integrations/vector/vector.yaml": {"types": integration_files.vector_types},
    "collector-lines.yaml": {
        "numeric_keys": numeric_keys,
        "attributes": attributes_of_keys,
    },
}


#: Files that are made as a whole.
FILES: dict[str, Callable[[], str]] = {
    "docs/event.schema.json": lambda: (
        json.dumps(registry.json_schema(), indent=2, ensure_ascii=False) + "\n"
    ),
    **alert_files.FILES,
    **integration_files.FILES,
    "grafana/dashboard.json": lambda: integration_files.dashboard(
        (REPOSITORY / "grafana" / "dashboard.json").read_text()
    ),
}


def generate(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """Return a document with its tables made anew; ValueError if it lacks one's place."""
    for name, make in tables.items():
        place = re.compile(
            rf"((?:<!-- table of {name}\b.*? -->|# table of {name}\b[^\n]*)\n)"
            rf".*?((?:<!-- end of {name} -->| *# end of {name}\n))",
            re.DOTALL,
        )
        text, count = place.subn(rf"\g<1>{PLACEHOLDER}\n\g<2>", text)
        text = text.replace(PLACEHOLDER, make())
        if count != 1:
            raise ValueError(f"{count} places for the table of {name}, instead of 1")
    return text


def outdated() -> dict[Path, tuple[str, str]]:
    """Return each document that must change, with its text as it is and as it should be."""
    found = {}
    for name, tables in TABLES.items():
        path = REPOSITORY / name
        text = path.read_text()
        wanted = generate(text, tables)
        if wanted != text:
            found[path] = (text, wanted)
    for name, make_file in FILES.items():
        path = REPOSITORY / name
        text = path.read_text() if path.exists() else ""
        wanted = make_file()
        if wanted != text:
            found[path] = (text, wanted)
    return found


def main() -> int:
    """Write the tables, or tell which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail if something differs"
    )
    options = parser.parse_args()
    changes = outdated()
    for path, (text, wanted) in changes.items():
        name = str(path.relative_to(REPOSITORY))
        if options.check:
            difference = difflib.unified_diff(
                text.splitlines(),
                wanted.splitlines(),
                name,
                f"{name} by the code",
                lineterm="",
                n=0,
            )
            print(*difference, sep="\n")
        else:
            path.write_text(wanted)
            print(f"{name} written")
    if options.check and changes:
        print("The tables are out of date; run: make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
