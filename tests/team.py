"""A command of several processes, for tests: each does what its argument says, by rank."""

import os
import signal
import sys
import time

from depthwise.cli import stopping
from depthwise.cli.processes import is_one_of_several, launch, leads


def work(task: str) -> int:
    """Do what a word says; return the exit code."""
    print(f"{os.environ['RANK']} of {os.environ['WORLD_SIZE']} prints", flush=True)
    match task:
        case "fails":
            print("it is broken", file=sys.stderr)
            return 2
        case "loses":
            time.sleep(0.3)
            return 75
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            time.sleep(60)
        case "stops":
            with stopping.postponing() as is_asked:
                print("ready", flush=True)
                while not is_asked():
                    time.sleep(0.01)
                print("saved" if leads() else "", flush=True)
    return 0


def main() -> int:
    """Be one of the processes, or what starts them."""
    stopping.answer_signals()
    if not is_one_of_several():
        return launch(len(sys.argv) - 1, lambda: "go on so")
    try:
        return work(sys.argv[1 + int(os.environ["RANK"])])
    except stopping.Stopped as stop:
        return stopping.say_stopped(stop.number)


if __name__ == "__main__":
    sys.exit(main())
