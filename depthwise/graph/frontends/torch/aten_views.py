"""The rules of PyTorch's operators that others say as well: more names for joining and shaping."""

from depthwise.graph.builder import Builder, Value
from depthwise.graph.frontends.places import shaped
from depthwise.graph.frontends.torch.aten import RULES, Rule, binary, rule
from depthwise.graph.frontends.torch.aten_index import permuted
from depthwise.graph.frontends.torch.aten_shape import cut

# what `run_decompositions` writes for a view of which it makes a copy -> the view
for name in (
    "view", "permute", "transpose", "slice", "select", "expand", "squeeze", "unsqueeze", "unbind",
    "split", "split_with_sizes", "alias", "t", "detach", "unfold", "diagonal",
):  # fmt: skip
    RULES[f"aten.{name}_copy"] = RULES[f"aten.{name}"]

RULES |= {
    "aten.unsafe_split": RULES["aten.split"],
    "aten.unsafe_split_with_sizes": RULES["aten.split_with_sizes"],
    "aten.unsafe_chunk": RULES["aten.chunk"],
    "aten.concatenate": RULES["aten.cat"],
    "aten.broadcast_to": RULES["aten.expand"],
    "aten.narrow_copy": RULES["aten.narrow"],
}


@rule("aten.view_as", "aten.reshape_as")
def _(b: Builder, x, other):
    return shaped(b, x, other.shape)


@rule("aten.ravel")
def _(b: Builder, x):
    return shaped(b, x, (x.type.size,))


@rule("aten.movedim", "aten.moveaxis")
def _(b: Builder, x, source, destination):
    sources, targets = (
        [x.axis(a) for a in ([axes] if isinstance(axes, int) else axes)]
        for axes in (source, destination)
    )
    order = [axis for axis in range(x.rank) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    return permuted(b, x, order)


@rule("aten.mT", "aten.mH", "aten.adjoint")
def _(b: Builder, x):
    return RULES["aten.transpose"](b, x, x.rank - 2, x.rank - 1)


@rule("aten.tile")
def _(b: Builder, x, dims):
    return RULES["aten.repeat"](b, x, (1,) * (x.rank - len(dims)) + tuple(dims))


@rule("aten.tensor_split")
def _(b: Builder, x, indices_or_sections, dim=0):
    """Equal parts, of which the first may have one more; or parts that end at places."""
    axis, size = x.axis(dim), x.shape[x.axis(dim)]
    if isinstance(indices_or_sections, int):
        share, more = divmod(size, indices_or_sections)
        sizes = [share + (i < more) for i in range(indices_or_sections)]
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    else:
        ends = [*indices_or_sections, size]
    starts = [0, *ends[:-1]]
    return [cut(b, x, axis, *bounds) for bounds in zip(starts, ends, strict=True)]


def split_along(axis: int) -> Rule:
    """Return the rule that splits along an axis, the last one where there are not so many."""
    return lambda b, x, parts: RULES["aten.tensor_split"](b, x, parts, min(axis, x.rank - 1))


def lifted(b: Builder, x: Value, least: int) -> Value:
    """Return x with axes of one element to make 1, 2 or 3: (1), (1, W), (1, W, 1) or (H, W, 1)."""
    if x.rank >= least:
        return x
    front = (1, 1, *x.shape)
    return shaped(b, x, {1: (1,), 2: front[-2:], 3: (*front[-2:], 1)}[least])


def at_least(axes: int) -> Rule:
    """Return the rule that gives a tensor, or each of several, so many axes."""

    def lowered(b: Builder, x):
        return lifted(b, x, axes) if isinstance(x, Value) else [lifted(b, v, axes) for v in x]

    return lowered


def joined_along(axis: int, axes: int) -> Rule:
    """Return the rule that joins tensors of so many axes, the only one where they have one."""

    def lowered(b: Builder, tensors):
        parts = [lifted(b, x, axes) for x in tensors]
        return RULES["aten.cat"](b, parts, min(axis, parts[0].rank - 1))

    return lowered


RULES |= {
    "aten.hsplit": split_along(1), "aten.vsplit": split_along(0), "aten.dsplit": split_along(2),
    "aten.atleast_1d": at_least(1), "aten.atleast_2d": at_least(2), "aten.atleast_3d": at_least(3),
    "aten.hstack": joined_along(1, 1), "aten.vstack": joined_along(0, 2),
    "aten.row_stack": joined_along(0, 2), "aten.dstack": joined_along(2, 3),
}  # fmt: skip


@rule("aten.column_stack")
def _(b: Builder, tensors):
    columns = [x if x.rank >= 2 else shaped(b, x, (x.type.size, 1)) for x in tensors]
    return RULES["aten.cat"](b, columns, 1)


@rule("aten.block_diag")
def _(b: Builder, tensors):
    """Each matrix with zeros before and after it, one above the other."""
    blocks = [lifted(b, x, 2) for x in tensors]
    width, before, rows = sum(x.shape[1] for x in blocks), 0, []
    for x in blocks:
        rows.append(RULES["aten.pad"](b, x, [before, width - before - x.shape[1]]))
        before += x.shape[1]
    return RULES["aten.cat"](b, rows, 0)


@rule("aten.diff")
def _(b: Builder, x, n=1, dim=-1, prepend=None, append=None):
    axis = x.axis(dim)
    parts = [part for part in (prepend, x, append) if part is not None]
    x = parts[0] if len(parts) == 1 else RULES["aten.cat"](b, parts, axis)
    for _ in range(n):
        size = x.shape[axis]
        x = binary(b, "subtract", cut(b, x, axis, 1, size), cut(b, x, axis, 0, size - 1))
    return x


@rule("aten.meshgrid")
def _(b: Builder, tensors, indexing="ij"):
    sizes = [x.type.size for x in tensors]
    grids = []
    for axis, x in enumerate(tensors):
        along = shaped(b, x, [n if i == axis else 1 for i, n in enumerate(sizes)])
        grid = RULES["aten.expand"](b, along, sizes)
        swapped = indexing == "xy" and len(sizes) > 1
        grids.append(RULES["aten.transpose"](b, grid, 0, 1) if swapped else grid)
    return grids


@rule("aten.kron")
def _(b: Builder, x, y):
    rank = max(x.rank, y.rank)
    a, c = ((1,) * (rank - v.rank) + v.shape for v in (x, y))
    left = shaped(b, x, [n for size in a for n in (size, 1)])
    right = shaped(b, y, [n for size in c for n in (1, size)])
    product = binary(b, "multiply", left, right)
    return shaped(b, product, [n * m for n, m in zip(a, c, strict=True)])
