"""The C that runs: one header a family of kernels, with a naive twin for each."""

from importlib.resources import files


def source(name: str) -> str:
    """Return the text of a header, as in source("conv.h"). Raises ValueError for any other name."""
    header = files(__name__) / name
    if not (name.endswith(".h") and header.is_file()):
        known = sorted(
            entry.name for entry in files(__name__).iterdir() if entry.name.endswith(".h")
        )
        raise ValueError(f"no kernel header {name!r}; there are {', '.join(known)}")
    return header.read_text(encoding="utf-8")
