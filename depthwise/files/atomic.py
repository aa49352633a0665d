"""Files written whole or not at all, by processes that may be killed at any moment.

Whatever is unfinished lies in a workspace: a hidden folder that holds a locked file. The system
lets go of the lock when its process ends, however that ends, so that a workspace whose lock is free
was abandoned, and the next process that works at the same place removes it.
"""

import ctypes
import errno
import fcntl
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WRITING = ".writing-"  # begins the name of a workspace that one file is written in
LOCK = ".depthwise-workspace"  # by this file a folder is known as a workspace of ours

_AT_FDCWD = -100
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@contextmanager
def workspace(parent: Path, prefix: str) -> Iterator[Path]:
    """Give a new folder in `parent`, named `prefix` and a mark, and remove it at the end.

    Those that killed processes left there under the same prefix are removed before. Raises
    OSError where no folder can be made.
    """
    for _ in abandoned(parent, prefix):
        pass
    folder, lock = _make(parent, prefix)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Give each workspace that a killed process left in `parent`; it is removed after its turn."""
    pattern = re.compile(re.escape(prefix) + r"[0-9a-f]{12}")
    try:
        found = [parent / name for name in os.listdir(parent) if pattern.fullmatch(name)]
    except OSError:
        return
    for folder in found:
        lock = _take(folder)
        if lock is not None:
            try:
                yield folder
                # under another name, so that a compiler that outlived its parent finds it no more
                moved = folder.with_name(f"{prefix}{_mark()}")
                with suppress(OSError):
                    folder.rename(moved)
                    _remove(moved)
            finally:
                os.close(lock)


@contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Hold a folder, and tell whether nobody else holds it; where no folder can be held, nobody.

    Raises OSError where there is none.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor) is not False
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write a file whole, or leave what was there. Raises OSError where it cannot be written."""
    with workspace(path.parent, WRITING) as folder:
        new = folder / "new"
        new.write_text(text, encoding="utf-8")
        flush(new)
        new.replace(path)


def exchange(one: Path, other: Path) -> bool:
    """Let two names change places at once; False where the system cannot do that.

    Raises OSError where it can and does not.
    """
    library = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(*paths, _EXCHANGE)
    elif sys.platform == "linux" and hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _EXCHANGE)
    else:
        return False
    if failed and (number := ctypes.get_errno()) not in _NO_EXCHANGE:
        raise OSError(number, os.strerror(number), str(other))
    return not failed


def flush(path: Path) -> None:
    """Wait until the disk holds what was written to a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mark() -> str:
    return uuid.uuid4().hex[:12]


def _make(parent: Path, prefix: str) -> tuple[Path, int]:
    """Return a new workspace with its open lock."""
    while True:
        folder = parent / f"{prefix}{_mark()}"
        folder.mkdir(parents=True)
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:  # taken for abandoned before it had its lock
            continue
        if _lock(lock) is not False and _is_at(lock, folder / LOCK):
            return folder, lock
        os.close(lock)


def _take(folder: Path) -> int | None:
    """Return the open lock of an abandoned workspace; None for one in use, or no workspace."""
    try:
        if folder.is_symlink():
            return None
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        with suppress(OSError):  # killed before there was a lock: it is empty, or not ours
            folder.rmdir()
        return None
    if _lock(lock) and _is_at(lock, folder / LOCK):
        return lock
    os.close(lock)
    return None


def _lock(descriptor: int) -> bool | None:
    """Lock a file for this process; False where another has it, None where no file can be."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def _remove(folder: Path) -> None:
    """Remove a workspace, its lock last: what is left, if that is cut short, is still known."""
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK:
                entry.unlink()
        (folder / LOCK).unlink()
        folder.rmdir()
