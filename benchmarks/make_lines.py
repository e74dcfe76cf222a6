"""Makes a file of mixed traffic out of real lines: `make_lines.py 1000000 --output lines.log`.

Each line is a copy of one of `lines/sample.log` with a time, ids, a client and a load of its own. Its
durations are stretched together, so that its places still add up. The same seed makes the same file.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from otel_canonical.event import json_lines, logfmt
from otel_canonical.event.event import timestamp
from otel_canonical.event.fields import FieldValue
from otel_canonical.reading.columns import COLUMNS

SAMPLE = Path(__file__).parent / "lines" / "sample.log"
BEGIN = datetime(2026, 11, 26, 10, tzinfo=timezone.utc)
LASTS = timedelta(hours=6)
#: How often a route comes, where not once; what ends badly comes seldom.
WEIGHTS = {
    "/": 20.0,
    "products/": 12.0,
    "products/<slug:slug>/": 25.0,
    "api/products/": 15.0,
    "cart/add/": 6.0,
    "ok/": 10.0,
    "healthz": 6.0,
    "account/": 4.0,
    "report.csv": 0.3,
    "broken/": 0.05,
    "broken-template/": 0.02,
}
TYPE_WEIGHTS = {"timeout": 0.02, "lost": 0.01, "pool": 0.2, "partial_failure": 0, "slow": 0}
#: What such a request says while it runs.
BEFORE = {"recommendations/": "partial_failure", "slow/": "slow"}
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    'x resp_status=500 "quoted" \\ back',
    "curl/7.88.1",
)
SLUGS = ("copper-kettle", "tin-kettle", "glass-teapot", "iron-pan", "oak-board", "linen-cloth")
FOREIGN = (
    "[2026-11-26 12:00:00 +0000] [11786] [INFO] Booting worker with pid: 11790\n",
    "Traceback (most recent call last):\n"
    '  File "/srv/shop/catalog/views.py", line 132, in broken\n'
    "    raise NoRate(currency) from error\n"
    'catalog.loyalty.NoRate: no rate for "XTS": resp_status=500\n',
)
FOREIGN_SHARE = 0.001


def lines(count: int, seed: int = 1, encode: str = "logfmt") -> Iterator[str]:
    """Yield so many lines, each with its newline, and foreign ones between them."""
    rng = random.Random(seed)
    samples = [logfmt.parse(line) for line in SAMPLE.read_text().splitlines()]
    prepared = [_prepare(sample) for sample in samples]
    beside = {str(sample["event_type"]): sample for sample in prepared}
    encoder = logfmt.encode if encode == "logfmt" else json_lines.encode
    begin_ns = int(BEGIN.timestamp()) * 1_000_000_000
    step_ns = int(LASTS.total_seconds()) * 1_000_000_000 // count
    written: Counter[str] = Counter()
    taken: Counter[FieldValue] = Counter()
    number = 0
    for sample in rng.choices(prepared, [_weight(sample) for sample in samples], k=count):
        pairs = dict(sample)
        before = (
            BEFORE.get(str(pairs.get("req_route"))) if pairs["event_type"] == "request" else None
        )
        both = [dict(beside[before]), pairs] if before else [pairs]
        for one in both:
            _vary(one, rng, timestamp(begin_ns + number * step_ns), number / count)
            number += 1
            if one["event_type"] == "pool":
                for key in [key for key in one if key.startswith("g_lines_")]:
                    del one[key]
                one.update({f"g_lines_{kind}": many for kind, many in written.items()})
                written.clear()
            else:
                written[str(one["event_type"])] += 1
            if "g_w_requests" in one and one["event_type"] != "slow":
                taken[one["g_pid"]] += 1
                one["g_w_requests"] = taken[one["g_pid"]]
        both[0]["req_id"] = pairs.get("req_id", "")
        for one in both:
            yield encoder((key, value) for key, value in one.items() if value != "") + "\n"
        if rng.random() < FOREIGN_SHARE:
            yield rng.choice(FOREIGN)
        if number >= count:
            return


def _weight(sample: dict[str, str]) -> float:
    if sample["event_type"] != "request":
        return TYPE_WEIGHTS[sample["event_type"]]
    return WEIGHTS.get(sample.get("req_route", ""), 0.3)


def _prepare(sample: dict[str, str]) -> dict[str, FieldValue]:
    return {key: _typed(value, COLUMNS.get(key, "")) for key, value in sample.items()}


def _typed(value: str, kind: str) -> FieldValue:
    if kind in ("VARCHAR", "TIMESTAMP"):
        return value
    if value in ("true", "false"):
        return value == "true"
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value


def _vary(pairs: dict[str, FieldValue], rng: random.Random, ts: str, progress: float) -> None:
    pairs["ts"] = ts
    if "req_id" in pairs:
        pairs["req_id"] = f"{rng.getrandbits(128):032x}"
    if "trace_id" in pairs:
        pairs["trace_id"] = f"{rng.getrandbits(128):032x}"
        pairs["span_id"] = f"{rng.getrandbits(64):016x}"
    if "req_client" in pairs:
        pairs["req_client"] = f"10.0.{rng.randrange(8)}.{rng.randrange(250)}"
    if "req_user_agent" in pairs:
        pairs["req_user_agent"] = rng.choice(AGENTS)
    if pairs.get("req_route") == "products/<slug:slug>/":
        pairs["req_path"] = f"/products/{rng.choice(SLUGS)}/"
    if "g_t_count" in pairs:
        # Fullest in the middle of the time.
        load = min(1.0, max(0.02, rng.gauss(0.2 + 0.6 * (1 - abs(2 * progress - 1)), 0.12)))
        pairs.update(g_w_count=4, g_t_count=16)
        pairs["g_t_active"] = max(1, round(16 * load))
        pairs["g_w_active"] = max(1, round(4 * load))
        if "g_backlog" in pairs:
            pairs["g_backlog"] = max(0, round((load - 0.9) * 60))
        if pairs["event_type"] == "pool":
            pairs["g_utilization"] = round(load, 4)
    if pairs["event_type"] == "request":
        factor = rng.lognormvariate(0.0, 0.45)
        for key, value in pairs.items():
            if type(value) is float and (COLUMNS.get(key) == "DOUBLE" or key.endswith("_time")):
                pairs[key] = round(value * factor, 6)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--format", choices=("logfmt", "json"), default="logfmt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a file; default: standard output")
    options = parser.parse_args()
    made = lines(options.count, options.seed, options.format)
    if options.output is None:
        sys.stdout.writelines(made)
    else:
        with options.output.open("w") as file:
            file.writelines(made)


if __name__ == "__main__":
    main()
