"""What each move makes of a network, as ONNX: another runtime computes what the graph does."""

import numpy as np
import pytest
from slimming_cases import randomized
from slimming_networks import measure, mixed, with_neighbours
from test_slimming_moves_of_blocks import SHAPE, block

import depthwise as dw
from depthwise.graph import Graph, capture, interpret
from depthwise.slimming.draft import Draft
from depthwise.slimming.moves import MOVES
from depthwise.sources.slimmed_folder import SlimmedRecord, write_slimmed

NETWORKS = {"blocks": lambda: capture(randomized(block()).eval(), SHAPE), "mixed": mixed}
OF_BLOCKS = ("blocks", "squeeze", "activations", "head")  # which the other network has none of


def slimmed(move: str) -> Graph:
    graph = NETWORKS["blocks" if move in OF_BLOCKS else "mixed"]()
    known = with_neighbours(graph, measure(graph))
    change = next(iter(MOVES[move](Draft(graph), known)))
    return change.apply(Draft(graph)).graph


@pytest.mark.parametrize("move", [name for name in MOVES if name != "resolution"])
def test_what_a_move_makes_is_exported(move, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    graph = slimmed(move)
    write_slimmed(tmp_path / "slim", graph, SlimmedRecord(network="net"))
    dw.export_onnx(f"slimmed:{tmp_path / 'slim'}", tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (name,) = [each.name for each in session.get_inputs()]
    shape = next(iter(graph.inputs.values())).shape
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    found, wanted = session.run(None, {name: x})[0], interpret(graph, x)[graph.outputs[0].value]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
