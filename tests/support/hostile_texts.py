"""Events made of what breaks line readers, quotes and terminals."""

from __future__ import annotations

import random

RANDOM_EVENTS = 600
MOST_PIECES = 8  # in one random value
LONG = 7 * 1024

# What a client can put in a header or a path, and what breaks line readers, quotes and terminals.
PIECES = [
    *("a", "GET", "/orders/12/", "é", "日本", "🧵", "%0A", "{}", "'", "0x1f", "-", "true", "null"),
    *(
        '"',
        "\\",
        '\\"',
        '\\\\"',
        "=",
        " ",
        "  ",
        ":",
        ",",
        '" forged="',
        "\\ forged=1 ",
        "forged=1",
    ),
    *("\n", "\r", "\r\n", "\t", "\x00", "\x1b[2J", "\x7f", "\x85", "\x9b", "\xa0", "\xff", "\xad"),
    *("\u2028", "\u2029", "\u202e", "\u2066", "\u200b", "\u3000", "\ufeff", "\ufffd", "\uffff"),
    *("\\n", "\\u0041", "\\x41", "\\", "\\\\", '"\n event_type="timeout" '),
]

UNPAIRED_SURROGATES = ["\ud800", "\udcff", "caf\udce9 au lait"]
TextEvent = dict[str, str]


def hostile_events() -> list[TextEvent]:
    """Return hundreds of events, the same ones in each run so that a failure can be repeated."""
    chance = random.Random(20_240_229)
    events = [{"first": "1", "hostile": piece, "last": "2"} for piece in PIECES]
    events += [{"first": "1", "hostile": (piece * LONG)[:LONG], "last": "2"} for piece in PIECES]
    for _ in range(RANDOM_EVENTS):
        event = {"event_type": "request"}
        for number in range(chance.randrange(1, 6)):
            pieces = chance.choices(PIECES, k=chance.randrange(MOST_PIECES + 1))
            event[f"key_{number}.{chance.choice('abc')}"] = "".join(pieces)
        events.append({**event, "resp_status": "200"})
    return events
