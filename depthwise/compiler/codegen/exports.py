"""What a library tells of its tensors, in C, and the calls that check what they are given.

net.h describes all of it. The sizes are those that the code was compiled for: whoever opens a
library compares them with what its manifest says.
"""

from collections.abc import Iterable, Sequence

from depthwise.compiler.lowering.views import Buffer
from depthwise.compiler.plan import Plan
from depthwise.compiler.schedule.arena import ALIGNMENT
from depthwise.graph import TensorType
from depthwise.graph.dtypes import FLOAT32


def _given(plan: Plan) -> list[TensorType]:
    """Return the types of the inputs."""
    return list(plan.graph.inputs.values())


def _made(plan: Plan) -> list[TensorType]:
    """Return the types of the outputs."""
    return [plan.graph.type(output.value) for output in plan.graph.outputs]


def _element(types: Sequence[TensorType]) -> str:
    """Return what C calls the elements of tensors, void where they are of several types."""
    names = {type_.element.c for type_ in types} or {FLOAT32.c}
    return names.pop() if len(names) == 1 else "void"


def tensor_parameters(plan: Plan) -> tuple[str, str]:
    """Return what declares `in` and `out`: a tensor, or a list of tensors."""
    given, made = _given(plan), _made(plan)
    lists = ["" if len(types) == 1 else "const *" for types in (given, made)]
    return (
        f"const {_element(given)} *{lists[0]}in", f"{_element(made)} *{lists[1]}out"
    )  # fmt: skip


def run_parameters(plan: Plan) -> str:
    """Return the parameters of net_run, as C declares them."""
    in_, out = tensor_parameters(plan)
    return f"const void *weights, {in_}, {out}, void *arena"


PARALLEL = "net_parallel_for parallel, void *context"  # what net_run_parallel takes beside these
ARGUMENTS = "weights, in, out, arena"

IN_TURN = (
    "static void in_turn(void *context, net_task task, const void *network, int parts) {",
    "    (void)context;",
    "    for (int part = 0; part < parts; part++) task(network, part);",
    "}",
    "",
)


def tensor_pointer(plan: Plan, buffer: Buffer) -> str:
    """Return what points to an input or an output inside of net_run."""
    types, constant = (_given(plan), "const ") if buffer.space == "input" else (_made(plan), "")
    name = "in" if buffer.space == "input" else "out"
    name = f"net->{name}" if plan.threads > 1 else name
    if len(types) == 1:
        return name
    cast = f"({constant}{buffer.element.c} *)" if _element(types) == "void" else ""
    return f"{cast}{name}[{buffer.index}]"


def sizes(plan: Plan, arena: int) -> list[str]:
    """Return the functions that tell what is to be allocated, and of the tensors.

    These are how many there are, their types and their bytes.
    """
    inputs, outputs = _given(plan), _made(plan)
    return [
        "NET_API size_t net_arena_bytes(void);",
        "NET_API size_t net_weights_bytes(void);",
        f"NET_API int net_run({run_parameters(plan)});",
        "",
        f"size_t net_arena_bytes(void) {{ return {arena}; }}",
        f"size_t net_weights_bytes(void) {{ return {plan.weights.nbytes}; }}",
        f"static const struct {{ int type; size_t bytes; }} net_in[] = {{{_rows(inputs)}}},",
        f"    net_out[] = {{{_rows(outputs)}}};",
        *_exported(plan, "int net_threads(void)", f"return {plan.threads};"),
        *_tensors(plan, "input", "net_in", len(inputs)),
        *_tensors(plan, "output", "net_out", len(outputs)),
        "",
    ]


def checked_runs(plan: Plan) -> list[str]:
    """Return net_run_checked, and of several threads net_run_parallel_checked."""
    in_, out = tensor_parameters(plan)
    given = (
        f"const void *weights, size_t weights_bytes, {in_}, {out}, void *arena, size_t arena_bytes"
    )
    several = [
        f"    for (int i = 0; i < {count}; i++) if (!{name}[i] && net_{name}[i].bytes) return 1;"
        for name, count in (("in", len(plan.graph.inputs)), ("out", len(plan.graph.outputs)))
        if count > 1
    ]
    lengths = {"weights": plan.weights.nbytes, "arena": plan.arena.bytes}
    aligned = " | ".join(f"(size_t){name}" for name, length in lengths.items() if length) or "0"
    wrong = "const int wrong = net_check(weights, weights_bytes, in, out, arena, arena_bytes);"
    lines = [
        "",
        f"static int net_check({given}) {{",
        "    if ((!weights && net_weights_bytes()) || (!arena && net_arena_bytes())) return 1;",
        "    if ((!in && net_in[0].bytes != 0) || (!out && net_out[0].bytes != 0)) return 1;",
        *several,
        "    if (weights_bytes < net_weights_bytes()) return 2;",
        "    if (arena_bytes < net_arena_bytes()) return 3;",
        f"    return ({aligned}) % {ALIGNMENT} ? 4 : 0;",
        "}",
        *_exported(
            plan, f"int net_run_checked({given})", wrong,
            "return wrong ? wrong : net_run(weights, in, out, arena);",
        ),
    ]  # fmt: skip
    if plan.threads > 1:
        lines += _exported(
            plan,
            f"int net_run_parallel_checked({given}, {PARALLEL})",
            wrong,
            "if (wrong || !parallel) return wrong ? wrong : 1;",
            "return net_run_parallel(weights, in, out, arena, parallel, context);",
        )
    return lines


def _exported(plan: Plan, signature: str, *body: str) -> list[str]:
    """Return a function with its declaration, which WebAssembly needs to be told to export."""
    name = signature.partition("(")[0].split()[-1]
    wasm = plan.target.architecture == "wasm32"
    export = f'__attribute__((export_name("{name}"))) ' if wasm else ""
    return [
        f"NET_API {export}{signature};",
        f"{signature} {{",
        *(f"    {line}" for line in body),
        "}",
    ]


def _rows(types: Iterable[TensorType]) -> str:
    """Return a row for each tensor, and one that ends them."""
    sizes = [(type.element.code, type.bytes) for type in types]
    return ", ".join(f"{{{code}, {whole}}}" for code, whole in [*sizes, (0, 0)])


def _tensors(plan: Plan, kind: str, table: str, count: int) -> list[str]:
    known = f"0 <= index && index < {count}"
    return [
        *_exported(plan, f"int net_{kind}s(void)", f"return {count};"),
        *_exported(
            plan, f"int net_{kind}_type(int index)", f"return {known} ? {table}[index].type : 0;"
        ),
        *_exported(
            plan,
            f"size_t net_{kind}_bytes(int index)",
            f"return {known} ? {table}[index].bytes : 0;",
        ),
    ]
