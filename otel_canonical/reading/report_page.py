"""The report as one page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from otel_canonical.reading.report_contents import NOTHING, Report
from otel_canonical.reading.report_pictures import SERIES, pictures, series_of
from otel_canonical.reading.sections import Section, shown

_LIGHT = (
    *("#2f6fb3", "#e08a2c", "#3d9a63", "#c9a227", "#8a63b8", "#c8403a", "#8f2350", "#4a4a55"),
    *("#4aa3a8", "#a06a3c", "#7d8a97", "#b0b7bf"),
)
_DARK = (
    *("#6ea8e6", "#f0a558", "#68c48c", "#e2c458", "#b592e0", "#f0746d", "#e0699b", "#b9b9c6"),
    *("#76c9cd", "#c9986c", "#9aa7b4", "#646c76"),
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbfc; --card: #ffffff; --text: #1d232a; --dim: #5d6772;
  --grid: #d5dae0; --bad: #b3261e; LIGHT }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171b; --card: #1c2026; --text: #e4e8ec; --dim: #9aa4af; --grid: #39414a;
    --bad: #ff8a80; DARK }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 1150px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.35rem; margin: .5rem 0 } h2 { font-size: 1.1rem; margin: 0 0 .5rem }
.totals { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; list-style: none }
.totals li, section { background: var(--card); border: 1px solid var(--grid); border-radius: 8px }
.totals li { padding: .3rem .8rem } .totals b { display: block; font-size: 1.1rem }
.totals span, .empty, footer, nav, .more { color: var(--dim); font-size: .9rem }
nav a { color: inherit; margin-right: .9rem; white-space: nowrap } nav { line-height: 1.9 }
section { padding: 1rem; margin: 1rem 0 } .first li { margin: .35rem 0 }
figure { margin: 0 0 .8rem } svg { width: 100%; height: auto; display: block } .narrow { display: none }
svg * { stroke-linejoin: round; stroke-linecap: butt }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; padding: 0; margin: 0 0 .3rem; list-style: none;
  font-size: .85rem; color: var(--dim) }
.legend i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .35em }
.table { overflow: auto; max-height: 21rem } table { border-collapse: collapse; font-size: .85rem; min-width: 100% }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; white-space: nowrap; vertical-align: top;
  font-variant-numeric: tabular-nums; border-bottom: 1px solid var(--grid) }
th { color: var(--dim); font-weight: 500; position: sticky; top: 0; background: var(--card) }
.text { text-align: left; unicode-bidi: isolate }
td.text { white-space: normal; min-width: 9rem; max-width: 26rem; overflow-wrap: anywhere }
.bad { color: var(--bad); font-weight: 600 }
@media (max-width: 620px) { body { padding: .6rem } section { padding: .7rem } .wide { display: none }
  .narrow { display: block } }
"""
_BAD = ("5xx", "failed", "timeouts", "timeout", "lost")


def page(report: Report, most_rows: int) -> str:
    """Return the page, at most so many rows of each table."""
    return "".join(_parts(report, most_rows))


def _parts(report: Report, most_rows: int) -> Iterator[str]:
    style = _STYLE.replace("LIGHT", _variables(_LIGHT)).replace("DARK", _variables(_DARK))
    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(report.headline)}</title>'
        f"<style>{style}</style></head>\n<body><h1>{escape(report.headline)}</h1>\n"
    )
    totals = "".join(
        f"<li><span>{escape(name)}</span><b>{escape(value)}</b></li>"
        for name, value in report.totals
    )
    yield f'<ul class="totals">{totals}</ul>\n'
    for title, sentences in report.sentences():
        yield f'<section class="first"><h2>{escape(title)}</h2>{_sentences(sentences)}</section>\n'
    links = "".join(
        f'<a href="#{section.name}">{escape(section.title)}</a> ' for section in report.sections
    )
    yield f"<nav>{links}</nav>\n"
    for section in report.sections:
        yield f'<section id="{section.name}"><h2>{escape(section.title)}</h2>'
        if section.rows:
            yield from _section(section, most_rows)
        else:
            yield f'<p class="empty">{escape(section.empty)}</p>'
        yield "</section>\n"
    yield "<footer>Times are UTC. Made by otel-canonical report.</footer></body></html>\n"


def _variables(colours: tuple[str, ...]) -> str:
    return " ".join(
        f"--series-{number}: {colour};" for number, colour in enumerate(colours[: len(SERIES)])
    )


def _sentences(sentences: list[str]) -> str:
    items = "".join(f"<li><bdi>{escape(sentence)}</bdi></li>" for sentence in sentences)
    return f"<ol>{items}</ol>" if items else f'<p class="empty">{NOTHING}</p>'


def _section(section: Section, most_rows: int) -> Iterator[str]:
    series = series_of(section)
    if series:
        if section.picture.kind != "heat":
            yield f'<ul class="legend">{_legend(section, series)}</ul>'
        for width, svg in pictures(section).items():
            label = escape(f"{section.title}: {section.picture.unit}")
            yield f'<figure class="{width}" role="img" aria-label="{label}">{svg}</figure>'
    rows = section.rows
    if section.picture.kind in ("bars", "parts"):
        rows = rows[:most_rows]
    yield '<div class="table"><table><thead><tr>'
    for column in section.columns:
        yield f"<th{_class_of(column.format)}>{escape(column.title)}</th>"
    yield "</tr></thead><tbody>\n"
    for row in rows:
        cells = []
        for value, column in zip(row, section.columns, strict=True):
            text = escape(shown(value, column))
            style = ' class="bad"' if value and column.title in _BAD else _class_of(column.format)
            cells.append(f"<td{style}>{text}</td>")
        yield f"<tr>{''.join(cells)}</tr>\n"
    yield "</tbody></table></div>"
    if len(rows) < len(section.rows):
        yield f'<p class="more">{len(section.rows) - len(rows)} more</p>'


def _legend(section: Section, series: dict[str, int]) -> str:
    """Return what the colours mean; of one colour, what it measures."""
    return "".join(
        f'<li><i style="background: var(--series-{number})"></i>'
        f"{escape(name if len(series) > 1 else section.picture.unit)}</li>"
        for name, number in series.items()
    )


def _class_of(form: str) -> str:
    return ' class="text"' if form == "text" else ""
