"""`report --compare` on two runs of the demo, before and after a deploy that made two pages worse."""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path

import pytest

from tests.support.demo_shop import shop_database
from tests.support.reading import run
from tests.support.servers import DEMO, PROGRAMS, Server, gunicorn
from tests.support.soak import IS_SOAK

PAGES = ("/", "/products/copper-kettle/", "/api/products/", "/ok/", "/healthz")
#: Of each page and run: enough blocks of requests for a judgement, of queries or of times, too.
VISITS = (80, 260)[IS_SOAK]

#: Name, and whether it is the changed site; only the long version holds two equal runs side by side.
RUNS = [("before", ""), ("after", "1"), *([("again", "")] if IS_SOAK else [])]


def visit_in_turn(sites: list[Server]) -> None:
    """Ask all servers for all pages, in every order: what disturbs one run disturbs the others as much."""
    orders = itertools.cycle(itertools.permutations(sites))
    for _ in range(VISITS):
        for page in PAGES:
            for site in next(orders):
                assert site.get(page).status == 200


def changes(before: Path, after: Path) -> list[str]:
    """Return the sentences about what changed."""
    done = run("report", "--compare", before, after)
    assert done.returncode == 0, done.stderr
    _, _, rest = done.stdout.partition("What changed\n")
    told, _, _ = rest.partition("\n\n")
    return [row.strip() for row in told.splitlines() if row[:4].strip()[:1].isdigit()]


@pytest.mark.soak
def test_changes_of_a_deploy_are_named(tmp_path: Path) -> None:
    """A query in a loop is named; in the long version a view 30 % slower, too, and nothing else."""
    with contextlib.ExitStack() as stack:
        sites = []
        for name, changed in RUNS:
            home = tmp_path / name
            home.mkdir()
            database = {"DEMO_DATABASE": str(shop_database(home))}
            server = gunicorn(
                "changed_demo",
                home,
                *("--chdir", str(DEMO), "--pythonpath", str(PROGRAMS)),
                CHANGED=changed,
                **database,
            )
            sites.append(stack.enter_context(server))
        visit_in_turn(sites)
        for site in sites:
            site.wait_for_lines(VISITS * len(PAGES))
    before, after, *others = [site.stdout for site in sites]
    told = changes(before, after)
    loop = next(sentence for sentence in told if "api/products/" in sentence)
    assert "1 -> 13 queries" in loop
    if IS_SOAK:
        # Times need a quiet machine.
        assert len(told) == 2, told
        slow = next(sentence for sentence in told if "products/<slug:slug>/" in sentence)
        assert re.search(r"view \d.* -> \d.* at catalog\.views\.product_detail", slow), slow
        [again] = others
        assert changes(before, again) == []
