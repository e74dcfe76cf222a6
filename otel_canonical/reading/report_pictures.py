"""The pictures of a page, drawn by matplotlib as SVG whose colours the page chooses.

Colours are drawn as placeholders and become CSS variables, so that one picture is right in light and in
dark; texts stay texts. Each picture is drawn twice, for a wide screen and for a narrow one.
"""

from __future__ import annotations

import datetime
import io
import itertools
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from otel_canonical.reading.problems import library
from otel_canonical.reading.screen import cells
from otel_canonical.reading.sections import Column, Section, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Widths and heights in CSS pixels.
WIDE = (1080, 250)
NARROW = (368, 240)
#: Bars of a picture; the table has the rest.
MOST_BARS = 10

_DPI = 72.0
_FONT_SIZE = 11
_TEXT, _GRID = "#010203", "#010204"
#: As many as a picture has parts at most.
SERIES = tuple(f"#0102{number:02x}" for number in range(16, 28))
_LOG_SPAN = 50.0
_LABEL_CELLS = {WIDE: 44, NARROW: 18}
#: Columns of counts: there is no half request.
_WHOLE = ("failed", "timeouts", "requests", "late requests", "clients gone")
_ROW_PX = 22
_AXIS_PX = 46
#: Failures have colours of their own, whichever place they have in a picture.
_NAMED = {"ok": 0, "4xx": 3, "5xx": 5, "failed": 5, "timeout": 6, "timeouts": 6, "lost": 7}


def pictures(section: Section) -> dict[str, str]:
    """Return a section's picture for each of the two widths, as SVG."""
    return {
        "wide": _drawn(section, WIDE, "w"),
        "narrow": _drawn(section, NARROW, "n"),
    }


def series_of(section: Section) -> dict[str, int]:
    """Return the drawn columns that have any value, with the numbers of their colours."""
    names = [name for name in section.picture.columns if any(section.values(name))]
    return {name: _NAMED.get(name, index) for index, name in enumerate(names)}


def _drawn(section: Section, size: tuple[int, int], suffix: str) -> str:
    library("matplotlib", "report")
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height = size
    if section.picture.kind in ("bars", "parts"):
        height = _AXIS_PX + _ROW_PX * min(len(section.rows), MOST_BARS)
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": section.name,
        "text.parse_math": False,
        "font.size": _FONT_SIZE,
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": _GRID,
        "axes.labelcolor": _TEXT,
        "xtick.color": _TEXT,
        "ytick.color": _TEXT,
        "grid.color": _GRID,
        "axes.axisbelow": True,
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A script that its font lacks: the browser's font has it.
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
        FigureCanvasSVG(figure)
        _KINDS[section.picture.kind](figure.add_subplot(), section, size)
        out = io.StringIO()
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return _as_part_of_page(out.getvalue(), f"{section.name}-{suffix}")


def _as_part_of_page(svg: str, name: str) -> str:
    """Return SVG without its head, its colours as variables, its ids as none other's."""
    svg = svg[svg.index("<svg") :]
    # Its style sheet would be that of the whole page.
    for element in ("metadata", "style"):
        svg = re.sub(rf"<{element}\b.*?</{element}>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = svg.replace(_TEXT, "var(--text)").replace(_GRID, "var(--grid)")
    for number, colour in enumerate(SERIES):
        svg = svg.replace(colour, f"var(--series-{number})")
    return re.sub(r'font: ([\d.]+px)[^;"]*', r"font: \1 system-ui, sans-serif", svg)


def _over_time(axes: Axes, section: Section) -> list[datetime.datetime]:
    # Its types are none: what is in there isn't annotated.
    dates: Any = library("matplotlib.dates", "report")
    locator = dates.AutoDateLocator(minticks=2, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, show_offset=False))
    axes.grid(axis="y")
    return section.values(section.columns[0].title)


def _step(times: Sequence[datetime.datetime]) -> datetime.timedelta:
    if len(times) < 2:
        return datetime.timedelta(minutes=1)
    return min(after - before for before, after in itertools.pairwise(times))


def _stack(axes: Axes, section: Section, _: tuple[int, int]) -> None:
    times = _over_time(axes, section)
    step = _step(times)
    bottom = [0.0] * len(times)
    for name, colour in series_of(section).items():
        values = [float(value or 0) for value in section.values(name)]
        axes.bar(
            _any(times),
            values,
            _any(step * 0.92),
            bottom=bottom,
            align="edge",
            color=SERIES[colour],
        )
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set_ylabel(section.picture.unit)


def _lines(axes: Axes, section: Section, _: tuple[int, int]) -> None:
    times = _over_time(axes, section)
    smallest, largest = float("inf"), 0.0
    for name, colour in series_of(section).items():
        values = [float("nan") if value is None else float(value) for value in section.values(name)]
        marker = "o" if len(times) < 3 else None
        axes.plot(_any(times), values, color=SERIES[colour], linewidth=1.8, marker=marker)
        present = [value for value in values if value > 0]
        smallest, largest = min([smallest, *present]), max([largest, *present])
    if section.picture.unit == "s" and largest > _LOG_SPAN * smallest:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    _format_axis(axes.yaxis, section, section.picture.columns[0])


def _bars(axes: Axes, section: Section, size: tuple[int, int]) -> None:
    rows = section.rows[:MOST_BARS]
    left = [0.0] * len(rows)
    places = list(range(len(rows)))
    for name, colour in series_of(section).items():
        values = [float(value or 0) for value in section.values(name)[:MOST_BARS]]
        axes.barh(places, values, 0.7, left=left, color=SERIES[colour])
        left = [low + value for low, value in zip(left, values, strict=True)]
    labels = [_label(row, section.columns, _LABEL_CELLS[size]) for row in rows]
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    is_whole = section.picture.columns[0] in _WHOLE
    axes.locator_params(axis="x", nbins=4 if size == NARROW else 8, integer=is_whole)
    _format_axis(axes.xaxis, section, section.picture.columns[0])


def _heat(axes: Axes, section: Section, _: tuple[int, int]) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    dates: Any = library("matplotlib.dates", "report")
    times = _over_time(axes, section)
    width = _step(times) / datetime.timedelta(days=1)
    counts = [row[1:] for row in section.rows]
    most = max(max(row) for row in counts) or 1
    for at, row in zip(times, counts, strict=True):
        for place, count in enumerate(row):
            if count:
                # By its root, so that the few slow ones are seen beside the many fast ones.
                cell = Rectangle((float(dates.date2num(at)), place), width * 0.96, 0.94)
                alpha = 0.12 + 0.88 * (count / most) ** 0.5
                axes.add_collection(PatchCollection([cell], facecolor=SERIES[0], alpha=alpha))
    names = [column.title for column in section.columns[1:]]
    axes.set_yticks([place + 0.5 for place in range(0, len(names), 2)], names[::2])
    axes.set_ylim(0, len(names))
    axes.set_xlim(_any(times[0]), _any(times[-1] + _step(times)))
    axes.xaxis_date()


def _label(row: Sequence[object], columns: Sequence[Column], width: int) -> str:
    """Return the first text of a row that there is: a place, else a route."""
    text = next(
        (shown(value, column) for value, column in zip(row, columns, strict=True) if value), ""
    )
    while cells(text) > width:
        text = text[:-2] + "…"
    return text


def _format_axis(axis: Any, section: Section, name: str) -> None:
    column = next(column for column in section.columns if column.title == name)
    axis.set_major_formatter(lambda value, _: shown(value, column) if value else "0")


def _any(value: object) -> Any:
    """Return a moment or a span as matplotlib takes it, though its types say otherwise."""
    return value


_KINDS = {"stack": _stack, "lines": _lines, "bars": _bars, "parts": _bars, "heat": _heat}
