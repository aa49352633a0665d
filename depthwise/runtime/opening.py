"""Shared libraries opened by content: what is run are the very bytes that were given.

The dynamic loader hands back what it has open under a name, whatever lies there by now, and what
it has open of a file is not what was checked if somebody writes to that file later. So bytes
are laid where nothing else writes, and under a name that was never opened before.
"""

import ctypes
import hashlib
import itertools
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_opened: weakref.WeakValueDictionary[str, ctypes.CDLL] = weakref.WeakValueDictionary()  # by SHA-256
_count = itertools.count(1)


def open_content(content: bytes) -> ctypes.CDLL:
    """Open the bytes of a shared library; the same bytes are opened once. Raises OSError.

    It is closed when nothing refers to it any more; each of its functions does.
    """
    digest = hashlib.sha256(content).hexdigest()
    found = _opened.get(digest)
    if found is None:
        with _new_name(content) as name:
            found = _opened[digest] = ctypes.CDLL(name)
        # not at the end of the process: threads of a pool may still be in it
        weakref.finalize(found, _close, found._handle).atexit = False
    return found


def _close(handle: int) -> None:
    ctypes.CDLL(None).dlclose(ctypes.c_void_p(handle))


@contextmanager
def _new_name(content: bytes) -> Iterator[str]:
    """Lay bytes in memory, else in a folder of their own, and give their name for the loader."""
    try:
        descriptor = os.memfd_create("depthwise")
    except (AttributeError, OSError):  # not Linux, or forbidden
        descriptor = None
    if descriptor is None or not Path("/proc/self/fd").is_dir():
        with tempfile.TemporaryDirectory(prefix="depthwise-") as folder:
            path = Path(folder, "net")
            path.write_bytes(content)
            yield str(path)
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        # descriptors are used again, and so would names be: each opening spells its path in
        # another way, with "/" for a 0 and "/." for a 1 of its number
        spelling = f"{next(_count):b}".replace("0", "/").replace("1", "/.")
        yield f"/proc/self/fd{spelling}/{descriptor}"
