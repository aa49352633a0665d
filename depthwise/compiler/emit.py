"""C text from a plan. It decides nothing: each step is one commented call."""

import re
import textwrap
from dataclasses import dataclass, field
from functools import cache

from depthwise.compiler.fused import Epilogue
from depthwise.compiler.places import Argument, Place, Step, Table
from depthwise.compiler.plan import FLOAT, Plan
from depthwise.graph import Node
from depthwise.graph.ops import Activation
from depthwise.graph.show import describe
from depthwise.kernels import source

# Kernel headers in the order in which they build on each other, with the headers they need.
HEADERS: dict[str, tuple[str, ...]] = {
    "vector": (),
    "activation": ("vector",),
    "conv": ("activation",),
    "winograd": ("activation",),
    "depthwise": ("activation",),
    "deform": ("conv",),
    "roi": ("activation",),
    "lrn": ("activation",),
    "elementwise": ("activation",),
    "pool": ("activation",),
    "norm": ("activation",),
    "reduce": ("activation",),
    "copy": ("activation",),
    "images": ("vector",),
    "resize": ("activation",),
    "matmul": ("activation",),
}


C_TYPES = {"float32": "float", "uint8": "unsigned char"}


@cache
def header_text(name: str) -> str:
    """Return the C of a kernel header."""
    return source(f"{name}.h")


def needed_headers(kernels: set[str]) -> list[str]:
    """Return the headers that define `kernels`, after those that they need."""
    found: set[str] = set()

    def add(name: str) -> None:
        found.add(name)
        for below in HEADERS[name]:
            add(below)

    for kernel in kernels:
        add(next(name for name in HEADERS if f" {kernel}(" in header_text(name)))
    return [name for name in HEADERS if name in found]


@dataclass
class Call:
    """A kernel specialised by literals: its name, pointers as declared, tables, and call."""

    name: str
    pointers: tuple[str, ...]
    tables: tuple[str, ...]
    body: str

    @property
    def signature(self) -> str:
        """The function's head, without linkage."""
        return f"void {self.name}({', '.join(self.pointers)})"


@dataclass
class _Text:
    """What net_run needs: each distinct table and specialised kernel once, and the calls."""

    tables: dict[Table, str] = field(default_factory=dict)
    calls: dict[tuple, Call] = field(default_factory=dict)
    body: list[str] = field(default_factory=list)


def emit(plan: Plan) -> str:
    """Return net.c, complete in itself: kernels, their specialised calls, net_run and its sizes."""
    text = _lower_to_text(plan)
    calls = [
        f"static __attribute__((noinline)) {call.signature} {{\n    {call.body};\n}}"
        for call in text.calls.values()
    ]
    return "\n".join([*_head(plan, plan.steps), *_tables(text), *calls, "", *_run(plan, text), ""])


def emit_units(plan: Plan, count: int, note: str | None = None) -> tuple[str, ...]:
    """Return the same as translation units to be compiled at once; the first has net_run.

    `note` names a C function, void(int steps done), that net_run calls before the first step and
    after each: a clock, to see where time goes. It is brought along as another unit.
    """
    text = _lower_to_text(plan, note)
    calls = list(text.calls.values())
    hidden = '__attribute__((noinline, visibility("hidden")))'
    declared = [f"{hidden} {call.signature};" for call in calls]
    declared += [f"void {note}(int steps);"] if note else []
    main = "\n".join([*_head(plan, ()), *declared, "", *_run(plan, text), ""])
    units = [main]
    for part in range(count):
        mine = calls[part::count]
        names = {table for call in mine for table in call.tables}
        tables = [line for line in _tables(text) if line.split("[")[0].split()[-1] in names]
        bodies = [f"{call.signature};\n{hidden} {call.signature} {{\n    {call.body};\n}}"
                  for call in mine]  # fmt: skip
        if mine:
            units.append("\n".join([*_head(plan, plan.steps), *tables, *bodies, ""]))
    return tuple(units)


def _lower_to_text(plan: Plan, note: str | None = None) -> _Text:
    text = _Text()
    nodes = {node.name: node for node in plan.graph}
    last = ""
    text.body += [f"    {note}(0);"] if note else []
    for done, step in enumerate(plan.steps, 1):
        if step.name != last and step.name in nodes:
            text.body.append(f"    /* {_comment(nodes[step.name], plan)} */")
        last = step.name
        comment = f" /* {step.comment} */" if step.comment else ""
        text.body.append(f"    {_call(step, plan, text)};{comment}")
        text.body += [f"    {note}({done});"] if note else []
    return text


def _head(plan: Plan, steps: tuple[Step, ...]) -> list[str]:
    kernels = [header_text(name) for name in needed_headers({step.kernel for step in steps})]
    return [
        "/* One network at fixed input shapes, in C11 with GCC's and clang's vector extensions.",
        f"   Compile with -O3 -ffp-contract=fast -fno-math-errno for {plan.target.name}; the",
        "   functions are described in net.h. */",
        "#include <math.h>",
        "#include <stddef.h>",
        "#include <string.h>",
        "",
        f"#define VL {plan.target.lanes}",
        "",
        *kernels,
    ]


def _tables(text: _Text) -> list[str]:
    return [
        f"static const int {name}[{len(table.values)}] = {{{', '.join(map(str, table.values))}}};"
        for table, name in text.tables.items()
    ]


def _comment(node: Node, plan: Plan) -> str:
    read = plan.graph.activations(node)
    sizes = ", ".join(str(plan.graph.type(name)) for name in read)
    where = f"{node.path}: " if node.path else ""
    return f"{where}{describe(node.op)}   {sizes} -> {node.type}".replace("*/", "* /")


def _call(step: Step, plan: Plan, text: _Text) -> str:
    """Return the call of a step's specialised kernel, which is kept at its first use."""
    pointers: list[str] = []
    declared: list[str] = []
    arguments: list[str] = []
    tables: list[str] = []
    for argument in step.arguments:
        if isinstance(argument, Place):
            buffer = plan.buffers[argument.buffer]
            constant = buffer.space in ("weights", "input")
            name = f"p{len(pointers)}"
            arguments.append(name)
            declared.append(f"{'const ' if constant else ''}{C_TYPES[buffer.dtype]} *{name}")
            pointers.append(_pointer(argument, plan))
        else:
            arguments.append(_literal(argument, text))
            if isinstance(argument, Table):
                tables.append(arguments[-1])
    key = (step.kernel, *declared, *arguments)
    if key not in text.calls:
        name = f"{step.kernel}_{len(text.calls)}"
        body = _named(step.kernel, arguments)
        text.calls[key] = Call(name, tuple(declared), tuple(tables), body)
    return f"{text.calls[key].name}({', '.join(pointers)})"


def _named(kernel: str, arguments: list[str]) -> str:
    """Return a call with the parameter's name before each number, on lines that fit a screen."""
    parameters = parameter_names(kernel)
    assert len(parameters) == len(arguments), f"{kernel}: {parameters} for {arguments}"
    said = [
        f"/*{name}*/{value}" if value.lstrip("-").isdigit() else value
        for name, value in zip(parameters, arguments, strict=True)
    ]
    call = f"{kernel}({', '.join(said)})"
    return textwrap.fill(call, 100, subsequent_indent=" " * 8, break_long_words=False)


@cache
def parameter_names(kernel: str) -> tuple[str, ...]:
    """Return the names of a kernel's parameters, as its header has them."""
    (header,) = needed_headers({kernel})[-1:]
    found = re.search(rf" {kernel}\(([^)]*)\)", header_text(header))
    assert found, f"{header}.h does not define {kernel}"
    return tuple(parameter.split()[-1].lstrip("*") for parameter in found[1].split(","))


def _literal(argument: Argument, text: _Text) -> str:
    match argument:
        case None:
            return "NULL"
        case Table():
            return text.tables.setdefault(argument, f"table_{len(text.tables)}")
        case Epilogue(before, add, after):
            return f"(struct epilogue){{{_act(before)}, {int(add)}, {_act(after)}}}"
        case Activation():
            return f"(struct act){_act(argument)}"
        case float():
            return number(argument)
        case _:
            return str(int(argument))  # type: ignore[arg-type]


def _act(activation: Activation | None) -> str:
    if activation is None:
        return "{ACT_NONE, 0.0f, 0.0f}"
    a, b = (*activation.parameters, 0.0, 0.0)[:2]
    return f"{{ACT_{activation.function.upper()}, {number(a)}, {number(b)}}}"


def number(value: float) -> str:
    """Return a float as C writes it, with every digit it needs."""
    if value in (float("inf"), -float("inf")):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{float(value)!r}f"


def _pointer(place: Place, plan: Plan) -> str:
    buffer, offset = plan.buffers[place.buffer], place.offset
    if buffer.space == "arena":
        return f"a + {offset + plan.arena.offsets[place.buffer] // FLOAT}"
    if buffer.space == "weights":
        return f"w + {offset}"
    values = plan.graph.inputs if buffer.space == "input" else plan.graph.outputs
    base = {"input": "in", "output": "out"}[buffer.space]
    base = base if len(values) == 1 else f"{base}[{buffer.index}]"
    return f"{base} + {offset}" if offset else base


def _run(plan: Plan, text: _Text) -> list[str]:
    types = [C_TYPES[type.dtype] for type in plan.graph.inputs.values()]
    in_ = f"const {types[0]} *in" if len(types) == 1 else "const float *const *in"
    out = "float *out" if len(plan.graph.outputs) == 1 else "float *const *out"
    return [
        "size_t net_arena_bytes(void);",
        "size_t net_weights_bytes(void);",
        f"int net_run(const void *weights, {in_}, {out}, void *arena);",
        "",
        f"size_t net_arena_bytes(void) {{ return {plan.arena.bytes}; }}",
        f"size_t net_weights_bytes(void) {{ return {plan.weights.nbytes}; }}",
        "",
        f"int net_run(const void *weights, {in_}, {out}, void *arena) {{",
        "    const float *w = (const float *)weights;",
        "    float *a = (float *)arena;",
        "    (void)w, (void)a;",
        *text.body,
        "    return 0;",
        "}",
    ]
