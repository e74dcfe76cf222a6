"""Whether a command line may become a Gunicorn; in doubt it may."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from otel_canonical.otel_environment.program import may_become_gunicorn
from tests.support.servers import PROGRAMS


@pytest.mark.parametrize(
    "words",
    [
        ["/srv/venv/bin/gunicorn", "mysite.wsgi"],
        ["/usr/bin/gunicorn3", "-c", "conf.py"],
        ["-m", "gunicorn", "mysite.wsgi"],
        ["-m", "gunicorn.app.wsgiapp"],
        ["-u", "-X", "dev", "-W", "error", "/srv/venv/bin/gunicorn", "mysite.wsgi"],
        ["-c", "from gunicorn.app.wsgiapp import run; run()"],
        [str(PROGRAMS / "own_application.py"), "--bind", "127.0.0.1:0"],
        ["-m", "own_application"],
        ["/no/such/program.py"],
        ["-m", "no_such_module"],
    ],
    ids=" ".join,
)
def test_gunicorn_is_expected(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, in a program's text, and where the text can't be read."""
    monkeypatch.syspath_prepend(PROGRAMS)
    assert may_become_gunicorn(["python", *words])


def test_gunicorn_is_not_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not name Gunicorn: a script, a module, a package, code, an interpreter."""
    (tmp_path / "script.py").write_text("print(1)")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text("print(1)")
    monkeypatch.syspath_prepend(tmp_path)
    for words in (
        [str(tmp_path / "script.py"), "gunicorn"],
        ["-I", "-X", "utf8", str(tmp_path / "script.py")],
        [str(tmp_path / "package")],
        ["-m", "script"],
        ["-m", "package", "gunicorn"],
        ["-c", "print(1)"],
        [],
        ["-"],
    ):
        assert not may_become_gunicorn([sys.executable, *words]), words
