"""A model's inputs, fixed to their shapes."""

from collections.abc import Mapping, Sequence

from onnx import GraphProto, TensorProto, TypeProto, ValueInfoProto
from onnx.helper import tensor_dtype_to_np_dtype

from depthwise.errors import Unsupported
from depthwise.escaping import counted, in_line
from depthwise.graph.dtypes import DTYPES
from depthwise.graph.graph import Shape, TensorType

Sizes = Sequence[int | str | None]  # of an input's axes; a name or None where it is left open
Shapes = Sequence[Shape] | Mapping[str, Shape]


def input_types(graph: GraphProto, shapes: Shapes) -> dict[str, TensorType]:
    """Return the type of each input by name; `shapes` fixes what the file leaves open.

    Raises ValueError for sizes that nothing fixes, and for shapes that do not fit the file.
    """
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if not inputs:
        raise ValueError("the model has no inputs: all that it computes is a constant")
    names = [value.name for value in inputs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two inputs of the model are named {in_line(twice)!r}")
    given = _by_name(names, shapes)
    bound: dict[str, int] = {}
    types = {}
    for value in sorted(inputs, key=lambda value: value.name not in given):  # these bind names
        tensor, name = _tensor_type(value), in_line(value.name)
        sizes = _sizes(tensor)
        if value.name in given:
            shape = _fixed(name, sizes, tuple(given[value.name]), bound)
        else:
            shape = _static(name, sizes, bound)
        if 0 in shape:
            raise ValueError(
                f"input {name} has the shape {shape}: each axis needs one element or more"
            )
        types[value.name] = TensorType(shape, str(tensor_dtype_to_np_dtype(tensor.elem_type)))
    return {value.name: types[value.name] for value in inputs}


def _by_name(names: list[str], shapes: Shapes) -> dict[str, Shape]:
    """Return the given shapes by the names of their inputs."""
    listed = ", ".join(map(in_line, names))
    if isinstance(shapes, Mapping):
        unknown = [name for name in shapes if name not in names]
        if unknown:
            raise ValueError(f"the model has no input {unknown[0]!r}; its inputs are: {listed}")
        return dict(shapes)
    if shapes and len(shapes) != len(names):
        raise ValueError(
            f"{counted(len(shapes), 'shape')} for {counted(len(names), 'input')}: give one for "
            f"each, in the order {listed}, or none"
        )
    return dict(zip(names, shapes, strict=False))


def _tensor_type(value: ValueInfoProto) -> TypeProto.Tensor:
    kind = value.type.WhichOneof("value") or "nothing"
    if kind != "tensor_type":
        raise Unsupported(
            f"input {in_line(value.name)} is a {kind.removesuffix('_type')}: only tensors are read"
        )
    number = value.type.tensor_type.elem_type
    try:
        dtype = str(tensor_dtype_to_np_dtype(number))
    except KeyError:
        raise ValueError(f"input {in_line(value.name)} has no type of element") from None
    if dtype not in DTYPES:
        kind = TensorProto.DataType.Name(number).lower()
        raise Unsupported(
            f"input {in_line(value.name)} is {kind}, a type that the graph does not have: there "
            f"are {', '.join(DTYPES)}"
        )
    return value.type.tensor_type


def _sizes(tensor: TypeProto.Tensor) -> Sizes | None:
    """Return what a file says of each axis, None where it does not tell how many there are."""
    if not tensor.HasField("shape"):
        return None
    known = ((d.dim_value, d.dim_param, d.WhichOneof("value")) for d in tensor.shape.dim)
    return [value if kind == "dim_value" and value >= 0 else name or None
            for value, name, kind in known]  # fmt: skip


def _static(name: str, sizes: Sizes | None, bound: dict[str, int]) -> Shape:
    """Return an input's shape from the file, and from other inputs whose axes bear its names."""
    if sizes is None:
        raise ValueError(
            f"input {name} has a shape that the file leaves open altogether: fix it with --shape "
            "1,3,224,224 (in Python shapes=[(1, 3, 224, 224)])"
        )
    known = [bound.get(size, size) if isinstance(size, str) else size for size in sizes]
    still = [axis for axis, size in enumerate(known) if not isinstance(size, int)]
    if not still:
        return tuple(size for size in known if isinstance(size, int))
    axes = [f"axis {axis}" + (f" ({in_line(str(known[axis]))})" if known[axis] else "")
            for axis in still]  # fmt: skip
    listed = axes[0] if len(axes) == 1 else f"{', '.join(axes[:-1])} and {axes[-1]}"
    example = _example(known)
    raise ValueError(
        f"input {name} leaves the size of {listed} open, and a library is made for one shape: fix "
        f"it with --shape {','.join(map(str, example))} (in Python shapes=[{example}]), with the "
        "sizes that you need"
    )


def _example(sizes: Sizes) -> Shape:
    """Return a shape that fits: a batch of one, axes of 224."""
    rank4 = len(sizes) == 4
    usual = (1, 3, 224, 224) if rank4 else (1, *(224 for _ in sizes[1:]))
    if rank4 and sizes[3] in (1, 3) and not isinstance(sizes[1], int):  # channels last
        usual = (1, 224, 224, 3)
    return tuple(size if isinstance(size, int) else n for size, n in zip(sizes, usual, strict=True))


def _fixed(name: str, sizes: Sizes | None, shape: Shape, bound: dict[str, int]) -> Shape:
    """Return a given shape after comparing it with what the file says."""
    if sizes is None:
        return shape
    if len(sizes) != len(shape):
        said = ",".join("?" if size is None else in_line(str(size)) for size in sizes)
        raise ValueError(f"input {name} has {len(sizes)} axes ({said}): the shape {shape} has "
                         f"{len(shape)}")  # fmt: skip
    for axis, (said, size) in enumerate(zip(sizes, shape, strict=True)):
        if isinstance(said, str):  # PaddlePaddle names every axis "?"
            bound.setdefault(said, size)
        elif said is not None and said != size:
            raise ValueError(
                f"input {name}: the shape {shape} has {size} on axis {axis}, which the model fixes "
                f"to {said}: give it that size, or export the model with that axis left open"
            )
    return shape
