"""Comparing two files: what changed is named, what is chance is not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from otel_canonical.reading.compare import compared
from otel_canonical.reading.route_profiles import BLOCK_REQUESTS, MOST_BLOCKS, RouteProfile
from otel_canonical.reading.significance import holm, more_often, rank_sum

ROUTES = 25
REQUESTS = 400


def profile(rng: random.Random, factor: float = 1.0, requests: int = REQUESTS) -> RouteProfile:
    """Return what a route of log-normal durations is like; some requests take a hundred times as long."""
    times = [
        rng.lognormvariate(-4, 0.6) * factor * (100 if rng.random() < 0.02 else 1)
        for _ in range(requests)
    ]
    blocks = min(MOST_BLOCKS, requests // BLOCK_REQUESTS)
    medians = [
        sorted(times[n * requests // blocks : (n + 1) * requests // blocks])[
            requests // blocks // 2
        ]
        for n in range(blocks)
    ]
    ordered = sorted(times)
    return RouteProfile(
        requests=requests,
        p50=ordered[requests // 2],
        p95=ordered[requests * 95 // 100],
        view="app.view",
        places={"view": sum(times) / requests, "database": 0.0},
        medians=medians,
        cpu=[median * rng.uniform(0.7, 0.9) for median in medians],
        in_view=[median * rng.uniform(0.1, 0.3) for median in medians],
        queries=[2.0] * blocks,
        failures={"status 500": sum(rng.random() < 0.01 for _ in range(requests))},
    )


def run_of(seed: int, factor: float = 1.0, requests: int = REQUESTS) -> dict[str, RouteProfile]:
    """Return a whole file's routes."""
    rng = random.Random(seed)
    return {f"r{number}/": profile(rng, factor, requests) for number in range(ROUTES)}


def test_equal_files_are_silent() -> None:
    """Of fifty comparisons without a change, of 25 routes each, at most two name anything."""
    loud = [seed for seed in range(50) if compared(run_of(seed), run_of(1000 + seed))]
    assert len(loud) <= 2, loud


def test_a_slower_route_is_named_and_only_it() -> None:
    """30 % on one of 25 routes, though single requests differ by more than that."""
    found = 0
    for seed in range(20):
        after = run_of(1000 + seed, requests=800)
        after["r7/"] = profile(random.Random(seed), 1.3, 800)
        told = compared(run_of(seed, requests=800), after)
        found += len(told) == 1 and told[0].startswith("r7/ is slower: p50 ")
    assert found >= 17


def test_view_is_named_that_is_a_small_part_of_its_requests() -> None:
    """A view twice as long, in requests that are mostly database: neither wall time nor CPU time tells."""
    before, after = run_of(1), run_of(2)
    before["r4/"].in_view = [0.002 * (1 + n % 5 / 10) for n in range(MOST_BLOCKS)]
    after["r4/"].in_view = [0.003 * (1 + n % 5 / 10) for n in range(MOST_BLOCKS)]
    assert compared(before, after) == [
        "r4/ is slower in its view: view 2.4 ms -> 3.6 ms at app.view"
    ]


def test_ten_requests_prove_nothing() -> None:
    """Ten requests that are three times as slow, and two failures of them, are not news."""
    before, after = run_of(1), run_of(2)
    before["few/"] = profile(random.Random(3), 1.0, 10)
    after["few/"] = replace(profile(random.Random(4), 3.0, 10), failures={"E at a.py:1:f": 2})
    assert [sentence for sentence in compared(before, after) if "few/" in sentence] == []


def test_what_all_routes_share_is_said_once() -> None:
    """A machine that is 40 % slower is one sentence, not 25; a change on top of it is still found."""
    before, after = run_of(1), run_of(2, 1.4)
    after["r3/"] = profile(random.Random(9), 2.2)
    told = compared(before, after)
    assert len(told) == 2, told
    assert told[0].startswith("r3/ is slower")
    assert told[1].startswith("all routes together: ")


def test_a_few_routes_that_differ_are_not_the_machine() -> None:
    """Two routes of five are slower and the third differs by chance: the middle one says nothing of all."""
    before = {f"r{n}/": profile(random.Random(n), 1.0, 120) for n in range(5)}
    after = dict(before)
    for route in ("r0/", "r1/"):
        after[route] = replace(before[route], medians=[3 * time for time in before[route].medians])
    after["r2/"] = replace(before["r2/"], medians=[1.12 * time for time in before["r2/"].medians])
    told = compared(before, after)
    assert len(told) == 2, told
    assert all("is slower" in sentence for sentence in told)


def test_new_failures_and_repeats() -> None:
    """Newly failing, more often failing, newly repeating and gone: each with its cause."""
    before, after = run_of(1), run_of(2)
    key = ("SELECT … WHERE id = ?", "a.py:5:f")
    after["r1/"].failures["NoRate at loyalty.py:20:rate_of"] = 30
    before["r2/"].failures["timeout at w.py:1:wait"] = 25
    after["r3/"].repeats[key] = (380, 80.0)
    before["r4/"].repeats[key] = (380, 80.0)
    after["r5/"].queries = [62.0] * MOST_BLOCKS
    after["r5/"].repeats[key] = (400, 60.0)
    assert compared(before, after) == [
        "r5/ asks more: 2 -> 62 queries, newly repeated: SELECT … WHERE id = ? at a.py:5:f",
        "r1/ fails newly: NoRate at loyalty.py:20:rate_of (30 requests, 7.5 % of it)",
        "r3/ repeats newly: 80x SELECT … WHERE id = ? at a.py:5:f",
        "gone: timeout at w.py:1:wait (r2/)",
        "gone: N+1 at a.py:5:f (r4/)",
    ]


def test_rank_sum_is_the_published_one() -> None:
    """Values as scipy.stats.mannwhitneyu(method="asymptotic") gives them, ties among them."""
    assert rank_sum([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(0.0121858, abs=1e-6)
    assert rank_sum([1, 2, 2, 3], [2, 3, 4, 4]) == pytest.approx(0.134169, abs=1e-6)
    some, others = [1, 5, 5, 5, 8, 9, 2.5], [5, 6, 7, 7, 8, 10]
    assert rank_sum(some, others) == pytest.approx(0.1675614, abs=1e-6)
    assert rank_sum([3] * 20, [3] * 20) == 1.0
    assert rank_sum([], [1.0]) == 1.0
    assert rank_sum([1.0] * 20, [31.0] * 20) < 1e-8


def test_fisher_is_the_published_one() -> None:
    """The lady who tastes tea: 3 of 4 right is p = 0.2429, 4 of 4 is 1 / 70."""
    assert more_often(1, 4, 3, 4) == pytest.approx(17 / 70)
    assert more_often(0, 4, 4, 4) == pytest.approx(1 / 70)
    assert more_often(0, 100, 0, 100) == 1.0
    assert more_often(0, 10_000, 30, 10_000) == pytest.approx(0.5**30, rel=0.1)


def test_holm_keeps_the_order() -> None:
    """The smallest of n p-values is multiplied by n, the next by n - 1, none falls below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
