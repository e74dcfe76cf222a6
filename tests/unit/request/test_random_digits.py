"""Digits for the ids of requests: each is given once."""

from __future__ import annotations

import random

from otel_canonical.request.random_digits import DIGITS, REQUESTS, RandomDigits
from tests.support.forks import exit_status, fork


def test_every_request_has_digits_of_its_own() -> None:
    """Whether they were ready or had to be made."""
    source = RandomDigits()
    given = [source.ready.pop() if source.ready else source.make() for _ in range(3 * REQUESTS)]
    assert len(set(given)) == 3 * REQUESTS
    assert {len(digits) for digits in given} == {DIGITS}
    assert all(int(digits, 16) for digits in given)


def test_app_that_seeds_its_random_numbers_gets_other_ids_all_the_same() -> None:
    """Else all workers of a model server would give the same ids."""
    found = []
    for _ in range(2):
        random.seed(1)
        found.append(RandomDigits().make())
    assert found[0] != found[1]


def test_fork_forgets_what_is_ready() -> None:
    """The parent goes on to use it."""
    source = RandomDigits()
    source.make()

    def check() -> None:
        assert not source.ready

    assert exit_status(fork(check)) == 0
    assert len(source.ready) == REQUESTS - 1
