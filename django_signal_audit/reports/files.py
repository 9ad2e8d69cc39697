"""Files that commands write: readable by their owner alone, and never through a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TextIO


def open_private(path: str | Path, flags: int) -> int:
    """Open a file for its owner alone and return its descriptor; usable as ``opener``.

    Raises:
        OSError: The file cannot be opened, is a symbolic link, or has another name (a hard link).

    """
    should_empty = flags & os.O_TRUNC
    descriptor = os.open(path, (flags & ~os.O_TRUNC) | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            if found.st_nlink > 1:
                raise OSError(errno.EMLINK, "the file has other names (hard links)", str(path))
            if hasattr(os, "fchmod") and stat.S_IMODE(found.st_mode) != 0o600:
                os.fchmod(descriptor, 0o600)
            if should_empty:
                os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_text(path: Path) -> TextIO:
    """Open a text file to be written anew, in UTF-8."""
    return open(path, "w", encoding="utf-8", newline="", opener=open_private)  # Path takes no opener


def why_not(error: OSError) -> str:
    """Return why a file could not be opened."""
    return "it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)
