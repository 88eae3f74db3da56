"""One Python file: reading, decoding, parsing. Nothing in a file makes these functions raise."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import stat
import tokenize

from analyze.facts import UNPARSABLE, UNREADABLE, FileFacts, Problem
from analyze.outline import outline_module

MAX_SOURCE_BYTES = 8 * 1024 * 1024
"""Larger files count as unreadable. The parser needs about a second and 100 MB per 2 MiB and cannot
be interrupted meanwhile; what people write stays far below, what is above is generated data."""


def count_lines(content: bytes) -> int:
    r"""Counts physical lines as Python does: `\n`, `\r\n` and `\r` end one; an unfinished last one counts."""
    ends = content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")
    return ends + bool(content and not content.endswith((b"\n", b"\r")))


def decode_source(content: bytes) -> str:
    """Decodes source text by its byte order mark or its coding line, else as UTF-8 (PEP 263).

    Args:
        content: A whole file.

    Returns:
        The text, without a byte order mark.

    Raises:
        SyntaxError: The declared encoding is unknown or contradicts the byte order mark.
        ValueError: The content is not in its encoding.
        LookupError: The declared encoding is not one of text.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return content.decode(encoding)


def analyze_source(content: bytes, path: str = "<source>") -> FileFacts:
    """Finds the facts about one file from its content.

    Does not change the warning filters, which belong to the process: Python may print a SyntaxWarning
    or DeprecationWarning that the source deserves.

    Args:
        content: A whole file.
        path: Name for the result; nothing is read.

    Returns:
        Its facts; `problem` says if it does not decode or does not parse. Never raises for any content.
    """
    facts = FileFacts(path, len(content), count_lines(content), hashlib.sha256(content).hexdigest())
    # Codecs and the parser are not ours and fail in many ways (null bytes, nesting, memory, their own
    # bugs): whatever they raise costs this one file.
    try:
        text = decode_source(content)
    except Exception as error:
        return facts._replace(problem=Problem(UNREADABLE, _reason(error)))
    try:
        outline = outline_module(ast.parse(text))
    except Exception as error:
        return facts._replace(problem=Problem(UNPARSABLE, _reason(error), _line(error)))
    return facts._replace(functions=outline.functions, classes=outline.classes, imports=outline.imports)


def analyze_file(path: str) -> FileFacts:
    """Reads one file and finds its facts: the handler of the message `analyze`.

    Args:
        path: The file. Symbolic links are followed; anything but a regular file counts as unreadable,
            so that a pipe or a device cannot block the worker.

    Returns:
        Its facts; `problem` says if it cannot be read, decoded or parsed. Never raises for any file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return FileFacts(path, problem=Problem(UNREADABLE, "not a regular file"))
        with open(path, "rb") as file:
            content = file.read(MAX_SOURCE_BYTES + 1)
    except (OSError, ValueError, MemoryError) as error:
        return FileFacts(path, problem=Problem(UNREADABLE, _reason(error)))
    if len(content) > MAX_SOURCE_BYTES:
        reason = f"larger than {MAX_SOURCE_BYTES // 1024 // 1024} MiB"
        return FileFacts(path, problem=Problem(UNREADABLE, reason))
    return analyze_source(content, path)


def _reason(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        text = error.msg
    elif isinstance(error, OSError):
        text = error.strerror or str(error)
    elif isinstance(error, (RecursionError, MemoryError)):
        text = f"too complex for the parser ({type(error).__name__})"
    else:
        text = str(error)
    return text or type(error).__name__


def _line(error: Exception) -> int | None:
    # The parser says line 0 when it knows none.
    return (error.lineno or None) if isinstance(error, SyntaxError) else None
