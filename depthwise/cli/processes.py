"""`--processes`: the same command by several processes of this machine, as torchrun starts them.

Each runs the whole command line once more, and knows by its environment which of them it is. The
first writes to the terminal; what others print is shown where one of them fails by itself.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import IO

from depthwise.cli import stopping
from depthwise.cli.failures import OUR_FAULT, say
from depthwise.cores import usable_cores

LOST_PEER = 75  # EX_TEMPFAIL of sysexits.h: of a process that ended because another one did
GRACE = 10.0  # seconds in which the others end by themselves once one has failed
MOST_A_CORE = 4  # processes: more only wait for each other
PAUSE = 0.05  # seconds between two looks at them
WHEN_PARENT_DIES = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def is_one_of_several() -> bool:
    """Tell whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def leads() -> bool:
    """Tell whether this process is the one that shows and prints."""
    return not is_one_of_several() or os.environ.get("RANK") == "0"


def is_watched() -> bool:
    """Tell whether whoever started this process tells how it and those beside it ended."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(count: int, go_on: Callable[[], str]) -> int:
    """Run this command line by `count` processes, signals passed on; return its exit code.

    Args:
        count: How many.
        go_on: Says how to go on where a process was killed; nothing where it is not possible.

    Raises:
        ValueError: More than MOST_A_CORE for each core.
    """
    _check_count(count)
    with ExitStack() as stack:
        words = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(count)]
        team = _Team()
        stack.callback(team.kill)
        stack.enter_context(stopping.passing_on(team.send))
        shared = _environment(count)
        for rank in range(count):
            team.start(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, words[rank])
        team.wait()
        return _outcome(team, words, go_on)


def _check_count(count: int) -> None:
    cores = os.cpu_count() or 1
    if count > MOST_A_CORE * cores:
        raise ValueError(
            f"--processes {count}: this machine has {cores} cores; one process for each core or "
            f"GPU is usual, and {MOST_A_CORE * cores} are the most"
        )


class _Team:
    """The processes of one command.

    Attributes:
        processes: All of them.
        failed: Those that failed, in the order in which that was seen, but for those killed here.
        received: The signals that were passed on.
    """

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen] = []
        self.failed: list[int] = []
        self.received: list[int] = []

    def start(self, environment: dict[str, str], words: IO[str]) -> None:
        """Start the next one, in a process group of its own: Ctrl-C comes to us alone."""
        output = words if self.processes else None
        self.processes.append(
            subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:]], env=os.environ | environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  (there are no threads here)
            )
        )  # fmt: skip

    def send(self, number: int) -> None:
        """Pass a signal on."""
        self.received.append(number)
        for process in self.processes:
            process.send_signal(number)

    def wait(self) -> None:
        """Wait until all have ended; kill those that still run some time after one failed."""
        deadline = float("inf")
        while any(process.poll() is None for process in self.processes):
            time.sleep(PAUSE)
            for rank, process in enumerate(self.processes):
                if process.poll() and rank not in self.failed:
                    self.failed.append(rank)
                    deadline = min(deadline, time.monotonic() + GRACE)
            if time.monotonic() > deadline:
                self.kill()

    def kill(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(WHEN_PARENT_DIES, signal.SIGTERM)


def _environment(count: int) -> dict[str, str]:
    """Return the variables that torchrun sets, but for those of each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, usable_cores() // count)
    return {
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": f"depthwise-{os.getpid()}",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }  # fmt: skip


def _outcome(team: _Team, words: Sequence[IO[str]], go_on: Callable[[], str]) -> int:
    """Return the exit code of the command; say what no process has said."""
    codes = [process.returncode for process in team.processes]
    if codes[0] > 0 and codes[0] != LOST_PEER:
        return codes[0]  # it has said why
    guilty = next((rank for rank in team.failed if codes[rank] != LOST_PEER), None)
    if guilty is None:
        return OUR_FAULT if team.failed else 0
    if codes[guilty] > 0:
        words[guilty].seek(0)
        sys.stderr.write(words[guilty].read())
        return codes[guilty]
    number = -codes[guilty]
    if number in team.received:
        return stopping.say_stopped(number)
    name = signal.Signals(number).name
    why = ", as is done where memory runs out" if number == signal.SIGKILL else ""
    said = (f"process {guilty} of 0 to {len(codes) - 1} was killed by {name}{why}", go_on())
    say("; ".join(filter(None, said)))
    return 128 + number
