"""The texts of a slot as bytes, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def packed(texts: Sequence[str], limits: Sequence[int]) -> bytes:
    """Return texts as they stand in a slot: UTF-8, zero bytes between them, each cut to its limit in bytes."""
    content = "\0".join(texts).encode("utf-8", "replace")
    if len(content) > limits[-1] or content.count(0) != len(limits) - 1:
        content = cut(texts, limits)
    return content


def cut(texts: Sequence[str], limits: Sequence[int]) -> bytes:
    """Return texts of which one is too long, or holds a zero byte, each cut and cleaned."""
    return b"\0".join(
        [
            text.encode("utf-8", "replace")[:limit].replace(b"\0", b" ")
            for text, limit in zip(texts, limits, strict=True)
        ]
    )


def unpacked(slot: bytes, start: int, length: int, names: Iterable[str]) -> dict[str, str]:
    """Return the texts that a part of a slot holds, by their names; none if nothing was written there."""
    if not length:
        return {}
    # A text may have been cut inside a character.
    texts = (text.decode("utf-8", "ignore") for text in slot[start : start + length].split(b"\0"))
    return dict(zip(names, texts, strict=False))
