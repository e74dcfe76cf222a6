"""Runs Django's own tests with and without our hooks, and prints which results differ.

    python tools/strangers/django_suite.py [LABEL…] [--django 5.2.8]

The tests are those of Django's source distribution, which pip downloads into `.cache/strangers`. They run
three times: without us; with a scope around each request of the test client, opened and closed as a server
does; and with a scope around each test, so that its own queries, renders and look-ups are counted, too. The
exit status says whether a test has another result than without us.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "strangers"

#: Django's tests of what we patch.
LABELS = (
    *("handlers", "middleware", "middleware_exceptions", "template_tests", "template_backends"),
    *("cache", "backends", "queries", "transactions", "transaction_hooks", "async", "asgi"),
    *("test_client", "test_client_regress", "view_tests", "requests_tests", "responses"),
    *("servers", "wsgi", "signals", "auth_tests", "shortcuts", "cache"),
)

#: Runs in front of `runtests.py`: our hooks, and a scope around each test.
WITH_US = """
import contextlib, os, runpy, sys, unittest
import otel_canonical.testing
from otel_canonical.request.scope import current_scope, RequestScope

run = unittest.TestCase.run
stack = contextlib.ExitStack()
kept = []

def run_in_scope(self, result=None):
    if not kept:  # settings are final now
        kept.append(stack.enter_context(otel_canonical.testing.capture_events()))
    if not os.environ.get("SCOPE_FOR_TESTS"):
        return run(self, result)
    token = current_scope.set(RequestScope("GET", "/", {}))
    try:
        return run(self, result)
    finally:
        current_scope.reset(token)

if __name__ == "__main__":
    unittest.TestCase.run = run_in_scope
    sys.argv = sys.argv[1:]
    sys.path.insert(0, ".")
    with stack:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        finally:
            print(f"{len(kept[0])} requests had an event", file=sys.stderr)
"""

#: Tests of the exact content of lists that we extend.
EXPECTED = {
    "backends.base.test_base.ExecuteWrapperTests.test_wrapper_connection_specific": (
        "asserts that a connection has no `execute_wrappers` but its own"
    ),
}

_RESULT = re.compile(
    r"^(\w+) \(([\w.]+)\)(?:.*\n)*?.*?\.\.\. (ok|FAIL|ERROR|skipped|expected failure)", re.MULTILINE
)


def tests_of(django: str) -> Path:
    """Return the directory of the tests of a Django release, downloaded if need be."""
    home = CACHE / f"django-{django}"
    if not (home / "tests").is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--no-binary", "django", "--dest", scratch]
            subprocess.run([*command, f"django=={django}"], check=True)
            [archive] = Path(scratch).glob("*.tar.gz")
            CACHE.mkdir(parents=True, exist_ok=True)
            with tarfile.open(archive) as packed:
                packed.extractall(CACHE, filter="data")
    return home / "tests"


def results(
    tests: Path, labels: tuple[str, ...], front: list[str], **environment: str
) -> dict[str, str]:
    """Run tests, print how it ended, and return the outcome of each by its name."""
    command = [sys.executable, *front, "runtests.py", "--verbosity=2", "--parallel=1", *labels]
    done = subprocess.run(
        command,
        cwd=tests,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OTEL_CANONICAL_STRICT": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    found = {f"{where}.{name}": outcome for name, where, outcome in _RESULT.findall(text)}
    for kind, name, where in re.findall(r"^(FAIL|ERROR): (\w+) \(([\w.]+)\)", text, re.MULTILINE):
        found[f"{where}.{name}"] = kind
    for line in text.splitlines()[-8:]:
        if line.startswith(("Ran ", "OK", "FAILED")) or "an event" in line:
            print(f"    {line}", flush=True)
    return found


def main() -> int:
    """Run Django's tests without and with us, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("labels", nargs="*", default=LABELS)
    parser.add_argument("--django", default=version("django"), help="a release of Django")
    options = parser.parse_args()
    tests = tests_of(options.django)
    labels = tuple(label for label in dict.fromkeys(options.labels) if (tests / label).is_dir())
    differing = 0
    with tempfile.TemporaryDirectory() as scratch:
        front = Path(scratch) / "with_us.py"
        front.write_text(WITH_US)
        print(f"Django {options.django}: {' '.join(labels)}\nwithout us", flush=True)
        plain = results(tests, labels, [])
        for what, scopes in (("around each request", ""), ("around each test", "1")):
            print(f"with a scope {what}", flush=True)
            ours = results(tests, labels, [str(front)], SCOPE_FOR_TESTS=scopes)
            for name in sorted(plain.keys() | ours.keys()):
                before, after = plain.get(name, "not run"), ours.get(name, "not run")
                if before != after:
                    reason = EXPECTED.get(name.rpartition(".")[0])
                    differing += reason is None
                    print(f"    {name}: {before} without us, {after} with us; {reason or 'why?'}")
    print(f"{len(plain)} tests, {differing} differences that are not explained")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
