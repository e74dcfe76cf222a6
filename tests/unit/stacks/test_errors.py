"""Facts of an exception: type, message, locations, template line."""

from __future__ import annotations

import builtins
import json
import re
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import pytest

from otel_canonical.event import bounds
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.stacks import errors
from otel_canonical.stacks.errors import ErrorFacts


class Nameless(Exception):
    """An exception whose text can't be had."""

    def __str__(self) -> str:
        raise ZeroDivisionError


def raised(error: BaseException) -> BaseException:
    """Return the exception, raised here."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # any there is
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "type_", "message"),
    [
        (ValueError("no"), "ValueError", "no"),
        (ValueError(), "ValueError", ""),
        (KeyError("plan"), "KeyError", "'plan'"),
        (OSError(2, "No such file", "x"), "FileNotFoundError", "[Errno 2] No such file: 'x'"),
        (SystemExit(3), "SystemExit", "3"),
        (Nameless(), "Nameless", "!err"),
    ],
)
def test_facts_are_type_and_message(error: BaseException, type_: str, message: str) -> None:
    """The class that was raised and its own text; `!err` if that raises."""
    facts = errors.of_error(raised(error))
    assert (facts.type, facts.message) == (type_, message)
    assert re.fullmatch(r"(.*/)?test_errors\.py:\d+:raised", facts.loc or "")
    assert facts.template is None


def test_facts_are_equal_and_shown_without_the_exception() -> None:
    """Two failures of the same kind at one place are the same fact."""
    first, second = (errors.of_error(ValueError("no")) for _ in range(2))
    assert first == second
    assert "raised" not in repr(first)
    assert first.without_stack().raised is None


def test_facts_have_no_place_when_error_was_never_raised() -> None:
    """An exception object that was never raised."""
    assert errors.of_error(ValueError("no")) == ErrorFacts("ValueError", "no")


def test_stack_is_as_python_prints_it() -> None:
    """Causes, contexts and notes, each message cleaned."""

    def fail() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise OSError("second")  # noqa: B904
        except OSError as error:
            raise ValueError("third") from error

    with pytest.raises(ValueError, match="third") as caught:
        fail()
    if sys.version_info >= (3, 11):
        caught.value.add_note("a note")
    expected = "".join(traceback.format_exception(caught.value))
    assert errors.stack_of(caught.value, str) == expected
    shouted = errors.stack_of(caught.value, str.upper)
    assert [word for word in ("'FIRST'", "SECOND", "THIRD") if word in shouted] == [
        *("'FIRST'", "SECOND", "THIRD")
    ]


def test_stack_of_syntax_error_is_as_python_prints_it() -> None:
    """With the line that has it."""
    with pytest.raises(SyntaxError) as caught:
        compile("a b c", "page.py", "exec")
    expected = "".join(traceback.format_exception(caught.value))
    assert errors.stack_of(caught.value, str) == expected


def test_stack_of_group_has_its_members() -> None:
    """As far as there are not too many of them."""
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no groups")
    members = [raised(ValueError(f"member {n}")) for n in range(9)]
    group = builtins.ExceptionGroup("several", members)  # type: ignore[attr-defined]
    text = errors.stack_of(raised(group), str)
    assert "ExceptionGroup: several (9 sub-exceptions)" in text
    assert re.findall(r"\+-- (\d) of (\d)", text) == [(str(n), "9") for n in range(1, 6)]
    assert "  | ValueError: member 4" in text
    assert "member 5" not in text


def test_groups_within_groups_are_shown_to_a_depth() -> None:
    """Three below the outermost."""
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no groups")
    group: Exception = ValueError("innermost")
    for depth in range(5, 0, -1):
        group = builtins.ExceptionGroup(f"depth {depth}", [group])  # type: ignore[attr-defined]
    text = errors.stack_of(group, str)
    assert re.findall(r"depth \d", text) == ["depth 1", "depth 2", "depth 3", "depth 4"]


def test_first_notes_are_shown() -> None:
    """An app may add any number of them."""
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no notes")
    error = ValueError("no")
    for number in range(12):
        error.add_note(f"note {number}")
    assert errors.stack_of(error, str) == "ValueError: no\n" + "".join(
        f"note {number}\n" for number in range(10)
    )


def test_context_is_shown_unless_it_is_suppressed() -> None:
    """`raise ... from None` says that it does not matter."""
    for suppress in (False, True):
        error = ValueError("second")
        error.__context__, error.__suppress_context__ = KeyError("first"), suppress
        assert ("first" in errors.stack_of(error, str)) is not suppress


def test_stack_just_as_long_as_allowed_is_whole() -> None:
    """One character more, and its middle is left out, line by line where there are lines."""
    assert errors._without_middle("a\nb\nc\n", 6) == "a\nb\nc\n"
    text = "".join(f"line {number}\n" for number in range(10))
    assert len(text) == 70
    assert errors._without_middle(text, 69) == (
        "line 0\nline 1\nline 2\nline 3\n  [14 characters left out]\n"
        "line 6\nline 7\nline 8\nline 9\n"
    )
    assert errors._without_middle("x" * 20, 10) == "xxxxx  [10 characters left out]\nxxxxx"


def test_refusal_of_a_request_quotes_no_query_string() -> None:
    """Gunicorn's parser repeats the first line."""
    facts = errors.of_refusal(raised(ValueError("Invalid: 'GET /a?token=1&b=2 x'")))
    assert facts.message == "Invalid: 'GET /a?[redacted] x'"
    assert facts.raised is None


def test_stack_has_both_ends_when_it_is_long() -> None:
    """Where it began and where it failed; what is between is counted. Every message is cut by `clean`."""

    def fall(depth: int) -> None:
        if not depth:
            raise ValueError("the end")
        fall(depth - 1)

    with pytest.raises(ValueError, match="the end") as caught:
        fall(700)
    text = errors.stack_of(caught.value, str)
    assert bounds.LONGEST_STACK == 16_384
    assert len(text) < bounds.LONGEST_STACK + 100
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ValueError: the end\n")
    assert "frames left out" in text


def test_stack_is_bounded_when_causes_are_endless() -> None:
    """A chain of exceptions with long messages loses its middle; so does one that is a circle."""
    error: BaseException = ValueError("x" * 3000)
    for _ in range(50):
        following = raised(ValueError("x" * 3000))
        following.__cause__ = error
        error = following
    text = errors.stack_of(error, str)
    assert len(text) < bounds.LONGEST_STACK + 100
    assert "characters left out" in text


def test_last_frame_is_where_it_was_raised() -> None:
    """The innermost frame, and none of what was never raised."""
    frame = errors.last_frame(raised(ValueError()))
    assert frame is not None
    assert frame.f_code.co_name == "raised"
    assert errors.last_frame(ValueError()) is None


TEMPLATES = {
    "base.html": "<html>\n{% block body %}{% endblock %}\n</html>",
    "page.html": "{% extends 'base.html' %}\n{% block body %}\n{% include 'part.html' %}{% endblock %}",
    "part.html": "one\n{% for n in numbers %}\n{{ thing.fails }}\n{% endfor %}",
    "tag.html": "\n\n{% if thing.fails %}{% endif %}",
    "filter.html": "{{ 7|date:thing.fails }}",
    "includes_syntax.html": "\n{% include 'syntax.html' %}",
    "syntax.html": "fine\n\n{% nonsense %}\n",
    "includes_missing.html": "\n{% include 'nowhere.html' %}",
    "extends_missing.html": "{% extends 'nowhere.html' %}",
    "unclosed.html": "\n{% if a %}\n",
    "not_found.html": "{% load nothing_like_this %}",
}


class Thing:
    """What the templates render."""

    @property
    def fails(self) -> str:
        """Fail."""
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("page.html", "part.html:3"),
        ("part.html", "part.html:3"),
        ("tag.html", "tag.html:3"),
        ("filter.html", "filter.html:1"),
        ("syntax.html", "syntax.html:3"),
        ("includes_syntax.html", "syntax.html:3"),
        ("includes_missing.html", "includes_missing.html:2"),
        ("extends_missing.html", "extends_missing.html:1"),
        ("unclosed.html", "unclosed.html:2"),
        ("not_found.html", "not_found.html:1"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_template_line_is_innermost_one(
    in_process: None, template: str, line: str, debug: bool
) -> None:
    """The line that failed, in the file that failed, whether or not templates are in debug mode."""
    from django.template import Context, Engine, TemplateDoesNotExist, TemplateSyntaxError

    failures = (ZeroDivisionError, TemplateDoesNotExist, TemplateSyntaxError)
    engine = Engine(debug=debug, loaders=[("django.template.loaders.locmem.Loader", TEMPLATES)])
    with pytest.raises(failures) as caught:
        engine.get_template(template).render(Context({"thing": Thing(), "numbers": [1, 2]}))
    assert errors.of_error(caught.value).template == line


def test_template_line_is_there_when_source_has_no_file(in_process: None) -> None:
    """A template made of a string is called what Django calls it."""
    from django.template import Context, Engine

    with pytest.raises(ZeroDivisionError) as caught:
        Engine().from_string("\n{{ thing.fails }}").render(Context({"thing": Thing()}))
    assert errors.of_error(caught.value).template == "<unknown source>:2"


@pytest.mark.parametrize(
    ("name", "line", "found"),
    [("page.html", 3, "page.html:3"), ("page.html", None, None), (None, 3, None)],
)
def test_template_line_needs_a_name_and_a_line(
    name: str | None, line: int | None, found: str | None
) -> None:
    """A node that an app has made by itself may lack either."""
    names: dict[str, Any] = {"__name__": "django.template.base"}
    exec("def render_annotated(self):\n    raise ValueError", names)
    node = SimpleNamespace(origin=SimpleNamespace(name=name), token=SimpleNamespace(lineno=line))
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # it has no message
        names["render_annotated"](node)
    assert errors.of_error(caught.value).template == found


def test_report_shows_each_frame_on_lines_and_each_message_on_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message that a client has sent must not look like another entry of the log."""
    policies: list[Any] = []
    monkeypatch.setattr(errors.internal_errors, "set_policy", lambda *parts: policies.append(parts))
    errors.report_with(RedactionPolicy())
    [(clean, describe)] = policies
    assert clean("password=hunter2\n") == "password=[redacted]\n"
    lines = describe(raised(ValueError("first\n[CRITICAL] second\x1b password=hunter2"))).split(
        "\n"
    )
    assert lines[0] == "Traceback (most recent call last):"
    assert [line[:8] for line in lines[1:-1]] == ['  File "', "    rais"]
    assert lines[-1] == "ValueError: first\\n[CRITICAL] second\\x1b password=[redacted]"


class _Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("no name")


class Hostile(Exception, metaclass=_Nameless):
    """Whatever is read of it raises."""

    @property
    def token(self) -> object:
        """What Django's template errors have."""
        raise SystemExit(3)

    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise ValueError("no cause")


def test_rest_is_shown_when_an_exception_is_hostile() -> None:
    """Its properties, and its metaclass, are code of the app's."""
    try:
        raise Hostile("the message")
    except Hostile as error:
        facts = errors.of_error(error)
    assert (facts.type, facts.message, facts.template) == ("Hostile", "the message", None)


def test_last_frame_is_the_callers_when_modules_are_skipped() -> None:
    """The code that asked the socket, not the socket's own."""

    def decodes() -> None:
        json.loads("no json")

    with pytest.raises(ValueError, match="Expecting") as caught:
        decodes()
    innermost = errors.last_frame(caught.value)
    asked = errors.last_frame(caught.value, ("json",))
    assert innermost is not None
    assert asked is not None
    assert (innermost.f_globals["__name__"], asked.f_code.co_name) == ("json.decoder", "decodes")
