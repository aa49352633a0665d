"""Times of slimmed networks, measured: compiled, and run in turns with the original."""

from depthwise.compiler.options import CompileOptions
from depthwise.graph import Graph
from depthwise.runtime.library import Library
from depthwise.slimming.costs.measuring import Timing, compile_draft, take_turns


class Clock:
    """Compiles and times drafts beside the original, each once."""

    def __init__(self, original: Graph, options: CompileOptions):
        self._original, self._options = original, options
        self._library: Library | None = None
        self._timed: dict[int, tuple[Graph, Timing]] = {}  # by the graphs' identities

    def alone(self) -> float:
        """Return the milliseconds of the original."""
        return take_turns([self._compiled()]).milliseconds[0]

    def beside(self, graph: Graph) -> Timing:
        """Return the times of the original and of a draft."""
        if id(graph) not in self._timed:
            library = compile_draft(graph, self._options)
            self._timed[id(graph)] = graph, take_turns([self._compiled(), library])
        return self._timed[id(graph)][1]

    def _compiled(self) -> Library:
        if self._library is None:
            self._library = compile_draft(self._original, self._options)
        return self._library
