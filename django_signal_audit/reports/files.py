"""Files that commands write: readable by their owner alone, and never through a link."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import TextIO

# Names of streams that the process has open already; they are links, and nobody else can turn them elsewhere.
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


def output_path(output: str | None) -> Path | None:
    """Return the file that ``--output`` names, None for the standard output."""
    return None if output in (None, "", "-", "/dev/stdout") else Path(str(output))


def open_private(path: str | Path, flags: int) -> int:
    """Open a file for its owner alone and return its descriptor; usable as ``opener``.

    Raises:
        OSError: The file cannot be opened, is a symbolic link, has another name (a hard link), or is another user's.

    """
    if (stream := _stream(str(path))) is not None:
        return os.dup(stream)
    should_empty = flags & os.O_TRUNC
    descriptor = os.open(path, (flags & ~os.O_TRUNC) | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            if found.st_nlink > 1:
                raise OSError(errno.EMLINK, "the file has other names (hard links)", str(path))
            if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
                raise OSError(errno.EPERM, "the file is another user's", str(path))
            if hasattr(os, "fchmod") and stat.S_IMODE(found.st_mode) != 0o600:
                os.fchmod(descriptor, 0o600)
            if should_empty:
                os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _stream(path: str) -> int | None:
    named = _DESCRIPTOR.fullmatch(path)
    return int(named[1]) if named else _STREAMS.get(path)


def open_text(path: Path) -> TextIO:
    """Open a text file to be written anew, in UTF-8."""
    return open(path, "w", encoding="utf-8", newline="", opener=open_private)  # Path takes no opener


def why_not(error: OSError) -> str:
    """Return why a file could not be opened."""
    return "it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)
