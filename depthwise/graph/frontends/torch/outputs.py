"""What a network returns: its tensors by name, in a structure that a library can give back."""

from collections.abc import Mapping
from typing import Any

from torch import fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from depthwise.errors import Unsupported
from depthwise.graph.builder import Value
from depthwise.graph.graph import Output

RETURN = "return a tensor, a tuple of tensors, or a dict of them by name"


def outputs_of(
    program: ExportedProgram, node: fx.Node, values: Mapping[fx.Node, Any]
) -> tuple[Output, ...]:
    """Return the tensors that a network returns, those within others too, named by their path."""
    returned = _returned(program, node)
    outputs = []
    for path, position in pytree.tree_flatten_with_path(_skeleton(program))[0]:
        value = values.get(returned[position])
        if isinstance(value, Value):
            outputs.append(Output(".".join(map(_key, path)), value.name))
    return tuple(outputs)


def check_structure(program: ExportedProgram) -> None:
    """Raise Unsupported for a structure that a library cannot give back as it is."""
    node = next(node for node in program.graph.nodes if node.op == "output")
    skeleton, returned = _skeleton(program), _returned(program, node)
    others = [value for value in returned if not isinstance(value, fx.Node)]
    if others or not returned:
        what = f"{others[0]!r} beside its tensors" if returned else "no tensor"
        raise Unsupported(f"the network returns {what}: {RETURN}")
    if isinstance(skeleton, int):
        return
    is_dict = isinstance(skeleton, Mapping)
    parts = list(skeleton.values() if is_dict else skeleton)
    if not all(isinstance(part, int) for part in parts):
        raise Unsupported(f"the network returns nested structures: {RETURN}")
    positions = [str(position) for position in range(len(parts))]
    if is_dict and (
        not all(isinstance(key, str) and key for key in skeleton) or list(skeleton) == positions
    ):
        raise Unsupported(f"the network returns a dict with the keys {list(skeleton)}: {RETURN}")


def _skeleton(program: ExportedProgram) -> Any:
    """Return the structure with each leaf's position in its place."""
    spec = program.call_spec.out_spec
    assert spec is not None
    return spec.unflatten(list(range(spec.num_leaves)))


def _returned(program: ExportedProgram, node: fx.Node) -> list[Any]:
    """Return the leaves: nodes, or the numbers, names and None that are no tensors."""
    kinds = program.graph_signature.output_specs
    pairs = zip(node.args[0], kinds, strict=True)  # type: ignore[arg-type]
    return [value for value, kind in pairs if kind.kind.name == "USER_OUTPUT"]


def _key(part: Any) -> str:
    """Return a step of a path: a position, a key or a field's name."""
    return str(next(getattr(part, a) for a in ("idx", "key", "name") if hasattr(part, a)))
