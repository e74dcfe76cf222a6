"""The page of `report --html` in a real browser without a network, in light and dark, wide and narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.make_lines import lines as made_lines
from otel_canonical.event import logfmt
from otel_canonical.event.fields import FieldValue
from tests.support.browser import Browser, browser
from tests.support.reading import run

#: Each as text on the page, or not at all.
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "</style><style>* { display: none }</style>",
    '"><img src=x onerror="document.title = 1">',
    "'; </table></section>",
    "\u202eevil\u2066\u200b",
    "$\\frac{1}{0}$ &lt; &amp; 漢字",
    "</svg></body><iframe src=https://example.org>",
)
SECTIONS = 14


@pytest.fixture(scope="module", name="page")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about lines whose texts are hostile."""
    directory = tmp_path_factory.mktemp("page")
    source, page = directory / "lines.log", directory / "report.html"
    with source.open("w", encoding="utf-8") as file:
        for number, line in enumerate(made_lines(4000, seed=5)):
            fields: dict[str, FieldValue] = {**logfmt.parse(line)}
            for key in ("req_route", "exc_msg", "exc_type", "db_n1", "db_n1_loc", "exc_cause_loc"):
                if key in fields and number % 2:
                    fields[key] = HOSTILE[number // 2 % len(HOSTILE)]
            file.write(logfmt.encode(fields.items()) + "\n")
        for route in HOSTILE:
            pairs: dict[str, FieldValue] = {
                **logfmt.parse(line if line.startswith("ts=") else "ts=2026-11-26T15:59:59.000Z"),
                "event_type": "lost",
                "req_route": route,
                "lost_cause": route,
                "resp_time": 900.0,
                "g_open": f"3*{route}",
            }
            file.write(logfmt.encode(pairs.items()) + "\n")
    done = run("report", "--html", page, source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return page


@pytest.fixture(scope="module", name="chromium")
def running_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all of them."""
    with browser(tmp_path_factory.mktemp("browser")) as chromium:
        yield chromium


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_needs_nothing_and_is_readable(
    page: Path, chromium: Browser, width: int, theme: str
) -> None:
    """No request but its own, no complaint, no hostile text that became markup; texts contrast."""
    chromium.events.clear()
    chromium.open(page, width, theme)
    assert chromium.requested() == [page.as_uri()]
    assert chromium.complaints() == []
    assert "requests, 26 Nov" in chromium.evaluate("document.title")
    assert chromium.evaluate("document.querySelectorAll('script, img, iframe, style').length") == 1
    assert chromium.evaluate("document.querySelectorAll('section[id]').length") == SECTIONS
    text = chromium.evaluate("document.body.textContent")
    for hostile in HOSTILE:
        shown = hostile.replace("\u202e", "\\u202e").replace("\u2066", "\\u2066")
        assert shown.replace("\u200b", "\\u200b") in text, hostile
    # The page isn't wider than the screen; tables scroll inside.
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width

    visible = (
        "[...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().width > 0)"
    )
    figures = chromium.evaluate(f"{visible}.length")
    assert 10 <= figures <= SECTIONS
    smallest = chromium.evaluate(
        f"Math.min(...{visible}.flatMap(svg => [...svg.querySelectorAll('text')].map("
        "t => parseFloat(getComputedStyle(t).fontSize) * svg.getBoundingClientRect().width "
        "/ svg.viewBox.baseVal.width)))"
    )
    assert smallest >= 9, "text in pictures is too small to read"
    assert _contrast(chromium, "td") >= 4.5
    assert _contrast(chromium, "svg text") >= 4.5
    assert _contrast(chromium, ".legend li") >= 4.5


def test_page_has_the_numbers_of_the_text(page: Path) -> None:
    """The same sections, headline and sentences as on the terminal."""
    html = page.read_text(encoding="utf-8")
    text = run("report", page.with_name("lines.log")).stdout
    headline = text.partition("   ")[0]
    assert f"<h1>{headline}</h1>" in html
    assert html.count("<section") == SECTIONS + 1
    named = re.findall(r'<[^<>]*\b(?:src|href)="([^"]*)"', html)
    assert [address for address in named if not address.startswith(("#", "data:"))] == []


def _contrast(chromium: Browser, selector: str) -> float:
    """Return how the text of an element stands out from the card behind it, as WCAG counts it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    element = f"document.querySelector('{selector}')"
    name = "fill" if selector.startswith("svg") else "color"
    text = chromium.evaluate(f"getComputedStyle({element}).{name}")
    back = chromium.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor")
    lighter, darker = sorted((luminance(text), luminance(back)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
