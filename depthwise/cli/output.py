"""Standard output, whose failures are told apart from all other files'."""

import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class OutputLost(BaseException):
    """What was printed was lost. No Exception: no library is to take it for its own."""

    def __init__(self, reason: str, reader_has_gone: bool = False):
        super().__init__(f"cannot write to standard output: {reason}")
        self.reader_has_gone = reader_has_gone


class OutputStream:
    """A text stream whose `write` and `flush` raise OutputLost where they fail."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream
        if hasattr(stream, "reconfigure"):  # no letter is worth losing the rest
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def check_open(self) -> None:
        """Raise OutputLost where there is no standard output."""
        if self._stream is None:
            raise OutputLost("it is closed; to throw away what is printed, use > /dev/null")

    def write(self, text: str) -> int:
        """Write as any stream does."""
        return self._try("write", text)

    def flush(self) -> None:
        """Flush as any stream does."""
        self._try("flush")

    def forget(self) -> None:
        """Drop what could not be written, else Python tries again, and complains, as it ends."""
        if self._stream is None or self._stream is not sys.__stdout__:
            return
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def _try(self, method: str, *arguments: str) -> Any:
        try:
            return getattr(self._stream, method)(*arguments)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputLost(reason, error.errno == errno.EPIPE) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
