"""Protobuf's own encoding: integers, tags and fields with a length. Pure.

See https://protobuf.dev/programming-guides/encoding/. Numbers and sizes that are frequent come from
tables: the loop of `varint` costs some thousand instructions.
"""

from __future__ import annotations

#: Wire types: how the bytes after a tag are read.
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def varint(number: int) -> bytes:
    """Return an integer of at most 64 bits as protobuf writes it, seven bits a byte, lowest first.

    Raises:
        OverflowError: it has more bits.
    """
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(f"{number} has more than 64 bits")
    number &= (1 << 64) - 1
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


#: Encodings of small numbers: kinds, codes, the sizes of most messages.
SMALL = tuple(varint(number) for number in range(128))
_SIZES = tuple(varint(number) for number in range(1024))


def tag(field: int, wire_type: int) -> bytes:
    """Return what stands in front of a field: its number and how its value is read."""
    return varint(field << 3 | wire_type)


#: The tags of fields that hold bytes, texts and messages, by their numbers.
_TAGS = tuple(tag(field, LENGTH) for field in range(16))


def framed(field: int, content: bytes) -> bytes:
    """Return a field of a message whose value is bytes, a text or another message."""
    size = len(content)
    return _TAGS[field] + (_SIZES[size] if size < len(_SIZES) else varint(size)) + content


def sized(content: bytes) -> bytes:
    """Return such a field without the tag in front of it."""
    return framed(0, content)[1:]
