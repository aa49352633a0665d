"""The C that runs: one header a family, with a naive twin for each kernel.

A header whose name ends with T16 is written once for all types of 16 bits: as `source` reads it,
for one of them, the type's name stands wherever T16 does.
"""

from importlib.resources import files

NARROW, NARROW_TYPES = "T16", ("bf16", "f16")


def source(name: str) -> str:
    """Return the text of a header, as in source("conv.h"). Raises ValueError for any other name."""
    stored = {entry.name: entry for entry in files(__name__).iterdir() if entry.name.endswith(".h")}
    known = {
        header.replace(NARROW, short): (header, short)
        for header in stored
        for short in (NARROW_TYPES if NARROW in header else ("",))
    }
    if name not in known:
        raise ValueError(f"no kernel header {name!r}; there are {', '.join(sorted(known))}")
    header, short = known[name]
    text = stored[header].read_text(encoding="utf-8")
    return text.replace(NARROW, short) if short else text
