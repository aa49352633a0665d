"""PyTorch kept from printing: what is wrong is said once, by us."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any, TextIO


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from logging tracebacks of its own, and from printing graphs."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stderr(_WithoutGraphs(sys.stderr)):  # type: ignore[type-var]
            yield
    finally:
        logging.disable(before)


class _WithoutGraphs:
    """Standard error, without the code of the graph that torch.export prints where it fails."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        """Write as any stream does."""
        ended, self._dropped = self._dropped and text == "\n", "\ndef forward(self, " in text
        return len(text) if ended or self._dropped else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
