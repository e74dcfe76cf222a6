"""Where lines come from: plain, gzip and zstd files and standard input, in chunks of whole lines."""

from __future__ import annotations

import contextlib
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from otel_canonical.reading.problems import CommandFailed, library

STDIN = "-"
#: What one read returns at most, decompressed.
CHUNK_BYTES = 16 << 20
#: A file without newlines is no file of lines; it is cut rather than kept in memory whole.
LONGEST_LINE_BYTES = 64 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def chunks(path: str, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield a file's bytes in pieces that end with a newline, but for the last one.

    The compression is recognised by the first bytes, so a rotated file may have any name.

    Raises:
        CommandFailed: the file cannot be read.
    """
    rest = b""
    with _failures_of(path), _opened(path) as stream:
        while data := stream.read(size):
            end = data.rfind(b"\n") + 1
            if end:
                yield rest + data[:end]
                rest = data[end:]
            else:
                rest += data
                if len(rest) > LONGEST_LINE_BYTES:
                    yield rest
                    rest = b""
    if rest:
        yield rest


def raw_lines(path: str) -> Iterator[bytes]:
    """Yield each line with its newline, of a pipe as soon as it is there."""
    with _failures_of(path), _opened(path) as stream:
        yield from stream


def numbered_lines(path: str) -> Iterator[tuple[int, str, bool]]:
    """Yield each line's number, its text without the newline, and whether it had a newline."""
    number = 0
    for chunk in chunks(path):
        has_end = chunk.endswith(b"\n")
        texts = chunk.decode("utf-8", "replace").split("\n")
        if has_end:
            texts.pop()
        for index, text in enumerate(texts, 1):
            number += 1
            yield number, text.removesuffix("\r"), has_end or index < len(texts)


@contextlib.contextmanager
def _failures_of(path: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise CommandFailed(f"cannot read {path}: {error}") from error
    except Exception as error:
        # zstandard's own class; naming it would import the library for plain files.
        if type(error).__name__ != "ZstdError":
            raise
        raise CommandFailed(f"cannot read {path}: {error}") from error


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    with contextlib.ExitStack() as stack:
        if path == STDIN:
            plain = cast("io.BufferedReader", sys.stdin.buffer)
        else:
            plain = stack.enter_context(open(path, "rb"))
        magic = plain.peek(len(_ZSTD_MAGIC))[: len(_ZSTD_MAGIC)]
        stream: BinaryIO = plain
        if magic.startswith(_GZIP_MAGIC):
            stream = stack.enter_context(cast("BinaryIO", gzip.GzipFile(fileobj=plain)))
        elif magic == _ZSTD_MAGIC:
            decompressor = library("zstandard", "report").ZstdDecompressor()
            # Log shippers append frames, each with a header of its own.
            reader = decompressor.stream_reader(plain, read_across_frames=True, closefd=False)
            stream = stack.enter_context(cast("BinaryIO", reader))
        yield stream
