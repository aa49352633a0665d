"""Files that verbs write: refused before the work where they cannot be, told of in a line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_folder(option: str, path: Path) -> None:
    """Raise ValueError where the folder that `path` is to lie in does not exist."""
    if not path.resolve().parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {path.parent}")


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Raise ValueError, with the system's reason, for what cannot be written inside."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{option} {path}: {error.strerror}") from None
