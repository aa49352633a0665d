"""Where built and measured things are kept."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return the directory of built libraries: XDG's, or ~/.cache/depthwise."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "depthwise"
