"""Changes the code in small ways and looks whether the unit tests of the changed module notice.

    python tools/mutants.py --sample 100 --seed 1
    python tools/mutants.py pool stacks --sample 100
    python tools/mutants.py stacks/location.py --all

Each mutant is one change: a comparison, a condition, a number, a boolean, an operator. Tests run in a copy of
the repository, those of the module first. What lives on is listed; it is either a test that is missing
or named, with its reason behind two spaces and a `#`, in `equivalent_mutants.txt`.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import copy
import functools
import importlib
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("event", "request", "stacks", "pool")
#: What the tests import, but for the package itself.
IMPORTED = """django.test django.db django.template django.core.management hypothesis jsonschema
    opentelemetry.sdk.trace opentelemetry.sdk._logs opentelemetry.sdk.metrics wrapt""".split()
#: Plugins that are imported already are not rewritten.
QUIET = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
#: Longer than that a test run is not waited for: the mutant never ends, so it was noticed.
PATIENCE_S = 300
#: These take long, and look at what other tests look at.
TOO_LONG = ("test_killed_while_writing.py", "test_logfmt_peers.py")
#: These take some seconds.
LONG = ("test_interrupted.py", "test_app_facts.py", "test_bounded_work.py", "test_redaction.py")
EQUIVALENT = REPOSITORY / "tools" / "equivalent_mutants.txt"

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
}


class Mutant(NamedTuple):
    """One change of one module."""

    path: str
    #: Which of the module's changeable expressions, and which of its changes.
    number: int
    change: int
    line: int
    #: What identifies it, also after lines were added above: its line of code, and what becomes of what.
    name: str

    def source(self) -> str:
        """Return the changed module."""
        tree = _tree_of(self.path)
        target = next(itertools.islice(_changeable(tree), self.number, None))
        _replace(tree, target, list(_changes(target))[self.change])
        return ast.unparse(ast.fix_missing_locations(tree))


def mutants_of(path: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, given by its path below the package."""
    lines = _source_of(path).splitlines()
    seen: collections.Counter[str] = collections.Counter()
    for number, node in enumerate(_changeable(_tree_of(path))):
        for change, changed in enumerate(_changes(node)):
            code = lines[node.lineno - 1].strip()
            name = f"{path} | {code} | {ast.unparse(node)} -> {ast.unparse(changed)}"
            seen[name] += 1
            # `0, 0` has two.
            times = f" | {seen[name]}" if seen[name] > 1 else ""
            yield Mutant(path, number, change, node.lineno, name + times)


def _tree_of(path: str) -> ast.Module:
    return ast.parse(_source_of(path))


@functools.cache
def _source_of(path: str) -> str:
    # Read once: somebody may go on working while mutants are tried.
    return (REPOSITORY / "otel_canonical" / path).read_text()


def _changeable(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that are code: no annotations, docstrings or slots."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_declaration(child):
                continue
            if isinstance(child, ast.expr):
                yield child
            yield from _changeable(child)


def _is_declaration(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        first = node.targets[0]
        return isinstance(first, ast.Name) and first.id in ("__slots__", "__all__")
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.Compare) and len(changed.ops) == 1:
        changed.ops = [_COMPARISONS[type(changed.ops[0])]()]
        yield changed
    elif isinstance(changed, ast.BoolOp):
        changed.op = ast.Or() if isinstance(changed.op, ast.And) else ast.And()
        yield changed
    elif isinstance(changed, ast.UnaryOp) and isinstance(changed.op, ast.Not):
        yield changed.operand
    elif isinstance(changed, ast.BinOp) and type(changed.op) in _OPERATORS:
        changed.op = _OPERATORS[type(changed.op)]()
        yield changed
    elif isinstance(changed, ast.IfExp):
        changed.body, changed.orelse = changed.orelse, changed.body
        yield changed
    elif isinstance(changed, ast.Constant):
        if type(changed.value) is bool:
            yield ast.Constant(not changed.value)
        elif type(changed.value) is int:
            yield ast.Constant(changed.value + 1)


def _replace(tree: ast.AST, target: ast.AST, by: ast.expr) -> None:
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if value is target:
                setattr(node, name, by)
                return
            if isinstance(value, list) and any(child is target for child in value):
                value[:] = [by if child is target else child for child in value]
                return


def is_noticed(mutant: Mutant, tree: Path, passing: list[str]) -> bool:
    """Return whether a test fails, or never ends, with the mutant in a copy of the repository.

    Args:
        mutant: the change.
        tree: the copy.
        passing: the files of tests that pass without it.
    """
    file = tree / "otel_canonical" / mutant.path
    original = file.read_text()
    file.write_text(mutant.source())
    try:
        # In two runs: to collect the tests of a whole package takes longer than to run those of a module.
        own, others = _tests_of(mutant.path, passing)
        return any(tests and _fails(tree, *tests) for tests in (own, others))
    finally:
        file.write_text(original)


def passing_tests(tree: Path, packages: set[str]) -> list[str]:
    """Return the files of tests that pass as the code is; say which don't."""
    passing = []
    for package in sorted(packages):
        found: list[str] = []
        for file in sorted((tree / "tests" / "unit" / package).glob("test_*.py")):
            name = f"tests/unit/{package}/{file.name}"
            if file.name not in TOO_LONG:
                found.append(name)
        # All at once first: usually all pass.
        for name in found if _fails(tree, *found) else ():
            if _fails(tree, name):
                print(f"left out, fails without a mutant: {name}", flush=True)
                found = [other for other in found if other != name]
        passing += found
    return passing


def _tests_of(path: str, passing: list[str]) -> tuple[list[str], list[str]]:
    """Return the tests of a module, and the others of its package; what takes long comes last."""
    package, _, module = path.partition("/")
    directory = f"tests/unit/{package}/"
    own = f"{directory}test_{module.removesuffix('.py')}"
    mine = [name for name in passing if name.startswith(directory)]
    mine.sort(key=lambda name: name.removeprefix(directory) in LONG)
    first = [
        name for name in mine if name.startswith(own) and name.removeprefix(directory) not in LONG
    ]
    return first, [name for name in mine if name not in first]


def _fails(tree: Path, *tests: str) -> bool:
    # A fork: pytest, Django and the SDK are imported already, which would take most of the time.
    pid = os.fork()
    if not pid:
        _run_tests(tree, *tests)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def _run_tests(tree: Path, *tests: str) -> NoReturn:
    status = 1
    try:
        os.setsid()
        os.chdir(tree)
        os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(tree))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        options = [
            "-x",
            "-q",
            "-p",
            "no:randomly",
            "-p",
            "no:xdist",
            "-p",
            "no:cacheprovider",
            *QUIET,
        ]
        status = int(pytest.main([*options, *tests]))
    finally:
        os._exit(status)


def chosen(arguments: argparse.Namespace) -> list[Mutant]:
    """Return the mutants that were asked for."""
    paths = [path for name in arguments.modules or PACKAGES for path in _modules_of(name)]
    found = [mutant for path in paths for mutant in mutants_of(path)]
    print(f"{len(found)} mutants of {len(paths)} modules", flush=True)
    if arguments.all:
        return found
    return random.Random(arguments.seed).sample(found, min(arguments.sample, len(found)))


def explained() -> set[str]:
    """Return the names of the mutants that change nothing that anybody is promised.

    Raises:
        SystemExit: one is listed without a reason, or there is no such mutant any more.
    """
    names: set[str] = set()
    for line in EQUIVALENT.read_text().splitlines():
        if not line or line.startswith("# "):
            continue
        name, _, reason = line.rpartition("  # ")
        path = name.partition(" | ")[0]
        if not reason or name not in {mutant.name for mutant in mutants_of(path)}:
            sys.exit(f"{EQUIVALENT.name}: no reason, or no such mutant: {line}")
        names.add(name)
    return names


def _modules_of(name: str) -> list[str]:
    """Return the modules of a package, or the one that is named."""
    if name.endswith(".py"):
        return [name]
    files = sorted((REPOSITORY / "otel_canonical" / name).glob("*.py"))
    return [f"{name}/{file.name}" for file in files if file.name != "__init__.py"]


def counts(kind: str, mutants: list[Mutant]) -> str:
    """Return how many there are, and of which package, like `3 live (2 pool, 1 stacks)`."""
    packages = collections.Counter(mutant.path.partition("/")[0] for mutant in mutants)
    each = ", ".join(f"{count} {package}" for package, count in sorted(packages.items()))
    return f"{len(mutants)} {kind}" + (f" ({each})" if each else "")


def main() -> int:
    """Run the mutants and list those that live; return 1 if one of them is not explained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as pool, or stacks/location.py")
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="every mutant instead of a sample")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that long")
    arguments = parser.parse_args()
    equivalent = explained()
    for name in IMPORTED:
        importlib.import_module(name)
    # The same examples for every mutant; a busy machine must not look like a failing test.
    hypothesis.settings.register_profile("mutants", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    noticed: list[Mutant] = []
    same: list[Mutant] = []
    living: list[Mutant] = []
    deadline = time.monotonic() + arguments.seconds
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="mutants-") as scratch,
    ):
        tree = Path(scratch)
        for name in ("otel_canonical", "tests", "docs"):
            leave_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, tree / name, ignore=leave_out)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(REPOSITORY / name, tree)
        mutants = chosen(arguments)
        passing = passing_tests(tree, {mutant.path.partition("/")[0] for mutant in mutants})
        for mutant in mutants:
            if time.monotonic() > deadline:
                break
            if mutant.name in equivalent:
                same.append(mutant)
            elif is_noticed(mutant, tree, passing):
                noticed.append(mutant)
            else:
                living.append(mutant)
                print(f"lives: {mutant.name}  (line {mutant.line})", flush=True)
    print(counts("noticed", noticed))
    print(counts("equivalent", same))
    print(counts("live", living))
    return 1 if living else 0


if __name__ == "__main__":
    sys.exit(main())
