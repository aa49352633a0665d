"""Our commands as a terminal calls them."""

import pytest

from depthwise.cli import main


def run(*arguments, capsys):
    """Return a command's exit code, what it printed, and what it said on standard error."""
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    output = capsys.readouterr()
    return end.value.code, output.out, output.err
