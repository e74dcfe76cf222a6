"""What lines and exports amount to at 1,000 requests a second on one host, from real ones.

Needs the package installed with its test dependencies: `.venv/bin/python benchmarks/scale.py`. Prints the
tables of `docs/SCALE.md`: a day of the demo shop (`shop.py`) is served three times, with lines in
logfmt, with lines in json, and with everything exported; then pools of several sizes, and pools
whose workers are recycled, are asked for their series.
"""

from __future__ import annotations

import argparse
import gzip
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from machine import describe_machine
from otlp_volume import KeepingSink, Volume, find_series, weigh
from recycling import COUNTED, count_instances
from shop import open_shop, read_lines, visit

from otel_canonical.event import logfmt

RATE = 1000
DAY_S = 86_400
BATCHES = (1000, 100)  # lines
POOLS = (1, 2, 4)
EXPORT = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_METRIC_EXPORT_INTERVAL": "2000",
}


def table(header: str, rows: list[list[object]]) -> str:
    """Return a Markdown table, all columns but the first to the right."""
    rule = "|".join(["---", *["--:"] * header.count("|")])
    body = [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in [header, rule.replace("|", " | "), *body])


def per_day(size: float) -> str:
    """Return what so many bytes a request are in a day."""
    return f"{size * RATE * DAY_S / 1e9:.1f} GB"


def shrink(lines: list[bytes], batch: int, compress: Callable[[bytes], bytes]) -> float:
    """Return the bytes of a line, compressed with others of its batch."""
    whole = [lines[at : at + batch] for at in range(0, len(lines) - batch + 1, batch)]
    return statistics.mean(len(compress(b"".join(part))) / batch for part in whole)


def zstd(data: bytes) -> bytes:
    """Return it as `zstd -3` compresses it."""
    return subprocess.run(["zstd", "-3", "-c"], input=data, capture_output=True, check=True).stdout


def show_lines(lines: dict[str, list[bytes]]) -> None:
    """Print what lines weigh, alone and compressed in batches."""
    ways: dict[str, Callable[[bytes], bytes]] = {"gzip -6": lambda data: gzip.compress(data, 6)}
    ways["zstd -3"] = zstd
    rows: list[list[object]] = []
    for name, found in lines.items():
        sizes = sorted(map(len, found))
        mean = statistics.mean(sizes)
        spread = f"{sizes[0]} / {statistics.median(sizes):.0f} / {sizes[-1]}"
        rows.append([f"{name}, as written", f"{mean:.0f}", spread, "1.0", per_day(mean)])
        for batch in (batch for batch in BATCHES if batch <= len(found)):
            for way, compress in ways.items():
                small = shrink(found, batch, compress)
                what = f"{name}, {way}, {batch} lines at a time"
                rows.append([what, f"{small:.0f}", "", f"{mean / small:.1f}", per_day(small)])
    print(table("lines | bytes a line | least / median / most | ratio | a day", rows))


def show_fields(lines: list[bytes]) -> None:
    """Print which keys the bytes of the lines go to."""
    sizes: Counter[str] = Counter()
    for line in lines:
        facts = logfmt.parse(line.decode().rstrip("\n"))
        for key, value in facts.items():
            sizes[key] += len(logfmt.encode([(key, value)]).encode()) + 1
    total = sum(map(len, lines))
    rows: list[list[object]] = [
        [f"`{key}`", f"{size / len(lines):.1f}", f"{size / total:.1%}"]
        for key, size in sizes.most_common(12)
    ]
    print(table("key | bytes a line | of all", rows))


def show_volume(volume: Volume, requests: int) -> None:
    """Print what one request sends over OTLP, and the attributes of a server span."""
    rows: list[list[object]] = []
    for name, weight in volume.weights.items():
        size = weight.size / max(weight.count, 1)
        counts = weight.describe_attributes()
        rows.append([name, f"{weight.count / requests:.2f}", f"{size:.0f}", counts])
    print(table("OTLP | a request | bytes each | attributes: least / median / most", rows))
    rows = []
    for signal_name in ("traces", "logs"):
        posts, whole, small = volume.sent[signal_name]
        sizes = (whole / requests, small / requests)
        shown = [text for size in sizes for text in (f"{size:.0f}", per_day(size))]
        rows.append([signal_name, *shown, f"{requests / max(posts, 1):.0f}"])
    print()
    print(table("signal | bytes a request | a day | with gzip | a day | requests a POST", rows))
    rows = [
        [f"`{key}`", f"{values.total() / requests:.0%}", len(values)]
        for key, values in sorted(volume.values.items(), key=lambda found: -len(found[1]))
    ]
    print()
    print(table("attribute of a server span | spans that have it | different values", rows))


def show_series(directory: Path, sink: KeepingSink, requests: int) -> None:
    """Print how many series each metric has in pools of several sizes."""
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for workers in POOLS:
        row = f"pool-{workers}"
        variables = EXPORT | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{sink.endpoint}/{row}",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        with open_shop(directory / row, workers, variables) as server:
            visit(server, requests)
        for name, series in find_series(sink.bodies(row)["metrics"]).items():
            kinds = len({attributes for _, attributes in series})
            found.setdefault(name, {})[workers] = (len(series), kinds)
    none = (0, 0)
    rows: list[list[object]] = [
        [f"`{name}`", max(kinds for _, kinds in sizes.values())]
        + [sizes.get(workers, none)[0] for workers in POOLS]
        for name, sizes in sorted(found.items())
    ]
    pools = " | ".join(f"series, {workers} workers" for workers in POOLS)
    print(table(f"metric | sets of attributes | {pools}", rows))


def main() -> None:
    """Serve the days, print the tables."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that servers are stopped too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000, help="of a day; %(default)s")
    requests = parser.parse_args().requests
    print(f"{requests} requests of the demo shop; {describe_machine()}\n")
    sink = KeepingSink()
    with tempfile.TemporaryDirectory(prefix="scale-") as name, sink:
        directory = Path(name)
        lines = {}
        for form in ("logfmt", "json"):
            variables = {"OTEL_PYTHON_CANONICAL_FORMAT": form}
            with open_shop(directory / form, 2, variables) as server:
                visit(server, requests)
            lines[form] = read_lines(server, requests)
        show_lines(lines)
        print(flush=True)
        show_fields(lines["logfmt"])
        print(flush=True)
        variables = EXPORT | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{sink.endpoint}/all"}
        with open_shop(directory / "all", 2, variables) as server:
            visit(server, requests)
        show_volume(weigh(sink.bodies("all")), requests)
        print(flush=True)
        show_series(directory, sink, requests // 3)
        print(flush=True)
        rows = [[*found] for found in count_instances(directory, sink)]
        print(
            table(
                f"recycled after 50 of {COUNTED} requests | workers | instance ids | series", rows
            )
        )


if __name__ == "__main__":
    main()
