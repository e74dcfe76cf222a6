"""What the wheel is tried with: Pythons, Djangos, Gunicorns and OpenTelemetry, old and new."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from processes import Failed, run

REPOSITORY = Path(__file__).resolve().parent.parent
TESTING_PYTHONS = REPOSITORY / "tools" / "testing-pythons"
OLDEST_GUNICORN = "gunicorn==23.*"
#: Between the oldest and the newest, which pip finds.
OTHER_GUNICORNS = ("gunicorn==24.*", "gunicorn==25.*", "gunicorn==26.*")
#: The oldest and the newest Python that each Django runs on. pip knows the oldest, but not the newest.
DJANGO_RUNS_ON = {
    "4.2": ("3.10", "3.13"),  # on 3.14 its template contexts can't be copied
    "5.2": ("3.10", "3.14"),
    "6.0": ("3.12", "3.14"),
    "6.1": ("3.12", "3.15"),
}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython of this machine, or of the root that tools/testing-pythons makes."""

    version: str
    path: Path
    launcher: tuple[Path | str, ...] = ()

    def command(self, python: Path, *arguments: Path | str) -> list[Path | str]:
        """Return how this interpreter, or one of its environments, is run."""
        return [*self.launcher, python, *arguments]


@dataclass(frozen=True, slots=True)
class Combination:
    """One environment to try the wheel in."""

    interpreter: Interpreter
    requirements: tuple[str, ...]
    #: Install the lowest version of everything that pyproject.toml allows.
    is_oldest: bool = False

    @property
    def name(self) -> str:
        """How the environment is called, and its directory."""
        words = [self.interpreter.version, *self.requirements, *(["oldest"] * self.is_oldest)]
        return "-".join(words).replace("==", "").replace(".*", "")


def find_combinations(*, corners: bool) -> Iterator[Combination]:
    """Yield what the wheel is to be tried with, of what is here and supported.

    With `corners`: the oldest of everything; the oldest Gunicorn on the oldest Python, with each later
    Django that runs there; the newest Gunicorn and OpenTelemetry with each Django, on the newest Python
    that it runs on. Else also every Python with every Django, and the other Gunicorns.
    """
    classifiers = importlib.metadata.metadata("otel-canonical").get_all("Classifier") or []
    supported = versions_of(classifiers, "Programming Language :: Python :: ")
    djangos = versions_of(classifiers, "Framework :: Django :: ")
    here = find_interpreters(supported, make=not corners)
    pythons = [here[version] for version in supported if version in here]
    first, last = pythons[0], pythons[-1]
    yield Combination(first, (), is_oldest=True)
    for django in djangos[1:]:
        if runs_on(django, first):
            yield Combination(first, (f"Django=={django}.*", OLDEST_GUNICORN))
    # Of several Pythons that a Django runs on, the last one stays.
    newest_of = {django: one for django in djangos for one in pythons if runs_on(django, one)}
    for django, interpreter in newest_of.items():
        yield Combination(interpreter, (f"Django=={django}.*",))
    newest = newest_django(last)
    if newest.rpartition(".")[0] not in djangos:
        yield Combination(last, (f"Django=={newest}",))
    if corners:
        return
    django, interpreter = list(newest_of.items())[-1]
    for gunicorn in OTHER_GUNICORNS:
        yield Combination(interpreter, (f"Django=={django}.*", gunicorn))
    for interpreter in pythons:
        for django in djangos:
            if runs_on(django, interpreter) and newest_of[django] is not interpreter:
                yield Combination(interpreter, (f"Django=={django}.*",))


def runs_on(django: str, interpreter: Interpreter) -> bool:
    """Return whether a series of Django, `5.2`, runs on an interpreter."""
    oldest, newest = map(version_key, DJANGO_RUNS_ON[django])
    return oldest <= version_key(interpreter.version) <= newest


def find_interpreters(supported: list[str], *, make: bool) -> dict[str, Interpreter]:
    """Return the interpreters by version, `3.12`; say which of the supported ones are missing.

    With `make`, the root of tools/testing-pythons is made if one is missing; else used if it is there.
    """
    found: dict[str, Interpreter] = {}
    for line in run([REPOSITORY / "tools" / "pythons"], REPOSITORY).splitlines():
        version = run([line, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], REPOSITORY)
        found.setdefault(version.strip(), Interpreter(version.strip(), Path(line)))
    if set(supported) - found.keys():
        if make:
            # What can't be made is said by the script itself; its Pythons are left out.
            subprocess.run([TESTING_PYTHONS, "make"], check=False)
        for line in run([TESTING_PYTHONS, "list"], REPOSITORY).splitlines():
            version = line.rpartition("python")[2]
            launcher = (TESTING_PYTHONS, "run")
            found.setdefault(version, Interpreter(version, Path(line), launcher))
    for missing in sorted(set(supported) - found.keys(), key=version_key):
        print(f"Python {missing} is supported, but not on this machine: left out", flush=True)
    return found


def newest_django(interpreter: Interpreter) -> str:
    """Return the version of Django that pip would choose for an interpreter."""
    choose = ["install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-"]
    # Not `pip --python`: the interpreter of another root can't be run by this one's pip.
    target = ["--python-version", interpreter.version, "--only-binary=:all:", "--target=unused"]
    report = json.loads(run([sys.executable, "-m", "pip", *choose, *target, "Django"], REPOSITORY))
    return str(report["install"][0]["metadata"]["version"])


def oldest_allowed() -> list[str]:
    """Return a constraint for each requirement of the package and of its extras: its lower bound."""
    constraints = set()
    for requirement in importlib.metadata.requires("otel-canonical") or []:
        bound = re.match(r"([\w.-]+)(?:\[.*?\])?>=([\w.]+)", requirement)
        if bound is None:
            raise Failed(f"{requirement!r} has no lower bound")
        constraints.add(f"{bound[1]}=={bound[2]}")
    return sorted(constraints)


def versions_of(classifiers: list[str], prefix: str) -> list[str]:
    """Return the versions with two numbers that classifiers name after a prefix, oldest first."""
    found = [line.removeprefix(prefix) for line in classifiers if line.startswith(prefix)]
    return sorted((version for version in found if "." in version), key=version_key)


def version_key(version: str) -> tuple[int, ...]:
    """Return what versions are sorted by."""
    return tuple(int(number) for number in version.split("."))
