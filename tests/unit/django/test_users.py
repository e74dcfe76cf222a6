"""Users on the scoreboard: shown when the app looks them up, and looked up by nobody else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from otel_canonical.django import users
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.request.scope import RequestScope, current_scope


@pytest.mark.parametrize(("is_authenticated", "shown"), [(True, "42"), (False, None)])
def test_user_is_shown_once_looked_up(is_authenticated: bool, shown: str | None) -> None:
    """By the primary key; an anonymous one is nobody."""
    user = SimpleNamespace(pk=42, is_authenticated=is_authenticated)
    auth = SimpleNamespace(get_user=lambda request: user)
    users.wrap_get_user(auth)
    board = Scoreboard(1, 1)
    board.take_block()
    slot = board.new_slot(0)
    assert slot is not None
    scope = RequestScope("GET", "/", {})
    scope.slot = slot
    slot.open(1, scope.started_ns, 3, 0, ("id", "", "", "", "GET", "", "", "/"))
    token = current_scope.set(scope)
    try:
        before = slot.read()
        assert auth.get_user(None) is user
        after = slot.read()
    finally:
        current_scope.reset(token)
    assert before is not None
    assert after is not None
    assert before.texts.get("user") is None
    assert after.texts.get("user") == shown
    assert auth.get_user(None) is user
