"""C text from a plan. It decides nothing: each step is one commented call."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from depthwise.compiler.byte_epilogue import ByteEpilogue
from depthwise.compiler.codegen.exports import (
    IN_TURN,
    PARALLEL,
    checked_runs,
    run_parameters,
    sizes,
    tensor_parameters,
    tensor_pointer,
)
from depthwise.compiler.codegen.headers import (
    header_text,
    kernel_texts,
    sizes_of_core,
    with_headers_below,
)
from depthwise.compiler.codegen.literals import initializer, number, spelled
from depthwise.compiler.fused_ops import Epilogue
from depthwise.compiler.lowering.calls import KernelCall, Table
from depthwise.compiler.lowering.views import TensorView
from depthwise.compiler.plan import Plan
from depthwise.escaping import check_c, in_c_comment
from depthwise.graph import Node
from depthwise.graph.dtypes import FLOAT32
from depthwise.graph.ops import Activation
from depthwise.graph.show import describe
from depthwise.runtime.target import Target

REFUSED = 5  # NET_CPU of net.h
AMX_TILE, AMX_BITS = 24, {"bfloat16": 22, "uint8": 25}  # of CPUID's leaf 7, edx


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
class Text:
    """What net_run needs: each distinct table and specialised kernel once, and the calls."""

    tables: dict[Table, str] = field(default_factory=dict)
    calls: dict[tuple, Call] = field(default_factory=dict)
    body: list[str] = field(default_factory=list)
    regions: list[str] = field(default_factory=list)


def emit(plan: Plan) -> str:
    """Return net.c, complete in itself: kernels, their specialised calls, net_run and its sizes."""
    text = lower_to_text(plan)
    run = [*threads(plan), *_run(plan, text)]
    return join([*head(plan, plan.steps), *define_calls(text), "", *run, ""])


def define_calls(text: Text) -> list[str]:
    """Return the tables and the specialised kernels of a text that is complete in itself."""
    calls = [f"NOINLINE {call.signature} {{\n    {call.body};\n}}" for call in text.calls.values()]
    return [*_tables(text), *calls]


def emit_units(plan: Plan, count: int, note: str | None = None) -> tuple[str, ...]:
    """Return the same as translation units to be compiled at once; the first has net_run.

    `note` names a C function, void(int steps done), that net_run calls before the first step and
    after each: a clock, to see where time goes, on one thread. It comes along as another unit.
    """
    (units,) = emit_together((plan,), count, note)
    return units


def emit_together(
    plans: Sequence[Plan], count: int, note: str | None = None
) -> list[tuple[str, ...]]:
    """Return the translation units of several plans for one target; all but the first are shared.

    So a kernel that several plans call is compiled once.
    """
    shared = Text()
    texts = [lower_to_text(plan, note, shared) for plan in plans]
    declared = declare_calls(shared)
    declared += [f"void {note}(int steps);"] if note else []
    mains = [
        join([*head(plan, ()), *declared, "", *threads(plan), *_run(plan, text), ""])
        for plan, text in zip(plans, texts, strict=True)
    ]
    units = kernel_units(plans, shared, count)
    return [(main, *units) for main in mains]


HIDDEN = '__attribute__((noinline, visibility("hidden")))'


def declare_calls(text: Text) -> list[str]:
    """Return what declares the specialised kernels of `kernel_units`."""
    return [f"{HIDDEN} {call.signature};" for call in text.calls.values()]


def kernel_units(plans: Sequence[Plan], text: Text, count: int) -> list[str]:
    """Return the specialised kernels of plans for one target, in `count` translation units."""
    steps = tuple(step for plan in plans for step in plan.steps)
    calls = list(text.calls.values())
    units: list[str] = []
    for part in range(count):
        mine = calls[part::count]
        names = {table for call in mine for table in call.tables}
        tables = [line for line in _tables(text) if line.split("[")[0].split()[-1] in names]
        bodies = [f"{call.signature};\n{HIDDEN} {call.signature} {{\n    {call.body};\n}}"
                  for call in mine]  # fmt: skip
        if mine:
            units.append(join([*head(plans[0], steps), *tables, *bodies, ""]))
    return units


def join(lines: Sequence[str]) -> str:
    """Return lines as one text. Raises AssertionError for what must not come into C."""
    return check_c("\n".join(lines))


def lower_to_text(plan: Plan, note: str | None = None, shared: Text | None = None) -> Text:
    """Return the text of a plan; tables and kernels are added to those of `shared`."""
    text = Text(shared.tables, shared.calls) if shared else Text()
    if plan.threads > 1:
        _regions(plan, text)
        return text
    text.body += [f"    {note}(0);"] if note else []
    text.body += _lines(plan.steps, plan, text, note)
    return text


def _lines(
    steps: Iterable[KernelCall], plan: Plan, text: Text, note: str | None = None
) -> list[str]:
    """Return the calls of steps, one a line, under a comment for each node."""
    nodes = {node.name: node for node in plan.graph}
    lines: list[str] = []
    last = ""
    for done, step in enumerate(steps, 1):
        if step.name != last and step.name in nodes:
            lines.append(f"    {_remark(_describe(nodes[step.name], plan))}")
        last = step.name
        comment = f" {_remark(step.comment)}" if step.comment else ""
        lines.append(f"    {_call(step, plan, text)};{comment}")
        lines += [f"    {note}({done});"] if note else []
    return lines


def _regions(plan: Plan, text: Text) -> None:
    """Write a function for each region, and the table of them; neighbours of one part are one."""
    parted = groupby(plan.regions, len)
    regions: list[tuple[list[str], ...]] = []
    for count, group in parted:
        if count == 1:
            steps = [step for (part,) in group for step in part]
            regions.append((_lines(steps, plan, text),))
        else:
            regions += [tuple(_lines(part, plan, text) for part in region) for region in group]
    for index, parts in enumerate(regions):
        text.regions += [f"static void region_{index}(const void *network, int part) {{", *UNPACK]
        for part, lines in enumerate(parts):
            indented = [f"    {line}" for line in lines]
            text.regions += [f"    if (part == {part}) {{", *indented, "    }"]
        text.regions += ["}", ""]
    rows = [f"    {{region_{index}, {len(parts)}}}," for index, parts in enumerate(regions)]
    text.regions += ["static const struct {", "    net_task task;", "    int parts;"]
    text.regions += ["} regions[] = {", *rows, "};", ""]


def head(plan: Plan, steps: Iterable[KernelCall]) -> list[str]:
    """Return how a translation unit of a plan begins, with the kernels of `steps`."""
    return [
        *preamble(plan.target.name),
        *sizes_of_core(plan),
        "",
        *kernel_texts({step.kernel for step in steps}),
    ]


def preamble(target: str) -> list[str]:
    """Return the first lines of C for a target, up to what they include."""
    return [
        "/* One network at fixed input shapes, in C11 with GCC's and clang's vector extensions.",
        f"   Compile with -O3 -ffp-contract=fast -fno-math-errno for {target}; the",
        "   functions are described in net.h. */",
        "#include <math.h>",
        "#include <stddef.h>",
        "#include <string.h>",
        "",
        "#if defined(_WIN32)",
        "#define NET_API __declspec(dllexport)",
        "#else",
        "#define NET_API",
        "#endif",
        "",
    ]


def threads(plan: Plan) -> list[str]:
    """Return the pool of threads that net_run_parallel takes, for more threads than one.

    Before it comes what asks for that of a CPU which not every one of its kind has.
    """
    headers = with_headers_below(header for header, _ in asks(plan.target))
    asked = [header_text(header) for header in headers]
    if plan.target.tiles:
        asked.insert(0, _define_amx(plan))
    if plan.threads == 1:
        return asked
    text = [header_text(name) for name in ("pthreads", "tasks", "threads")]
    return [*asked, f"#define NET_THREADS {plan.threads}", *text]


def _define_amx(plan: Plan) -> str:
    """Return what AMX the tiles of a plan need, as the bits by which CPUID tells of it."""
    elements = {buffer.element.name for buffer in plan.buffers}
    bits = [AMX_TILE, *(bit for element, bit in AMX_BITS.items() if element in elements)]
    return f"#define NET_AMX ({' | '.join(f'1u << {bit}' for bit in bits)})"


def _tables(text: Text) -> list[str]:
    return [
        f"static const int {name}[{len(table.values)}] = {{{', '.join(map(str, table.values))}}};"
        for table, name in text.tables.items()
    ]


def _remark(text: str) -> str:
    """Return a comment; every text that is not ours alone comes into C by this one way."""
    return f"/* {in_c_comment(text)} */"


def _describe(node: Node, plan: Plan) -> str:
    read = plan.graph.activations(node)
    sizes = ", ".join(str(plan.graph.type(name)) for name in read)
    where = f"{node.path}: " if node.path else ""
    return f"{where}{describe(node.op)}   {sizes} -> {node.type}"


def _call(step: KernelCall, plan: Plan, text: Text) -> str:
    """Return the call of a step's specialised kernel, which is kept at its first use."""
    row, arguments = step.row, step.arguments
    members = {p.name: _literal(arguments[p.name], text) for p in row.members}
    views = {p: arguments[p.name] for p in row.pointers if arguments[p.name] is not None}
    for parameter, view in views.items():
        assert plan.buffers[view.buffer].element == parameter.dtype
    declared = tuple(parameter.declaration for parameter in views)
    given = [p.name if p in views else "NULL" for p in row.pointers]
    # a constant in memory, which inlining folds as it does a literal: a struct by value would be
    # copied from call to call first, and compile for twice as long
    numbers = f"static const struct {row.name} numbers = {initializer(row, members)}"
    body = f"{numbers};\n    {row.c_name}(&numbers, {', '.join(given)})"
    if (body, declared) not in text.calls:
        tables = tuple(text.tables[table] for table in _tables_of(arguments.values()))
        name = f"{row.c_name}{plan.target.mark}_{len(text.calls)}"
        text.calls[body, declared] = Call(name, declared, tables, body)
    pointers = ", ".join(_pointer(view, plan) for view in views.values())
    return f"{text.calls[body, declared].name}({pointers})"


def _tables_of(arguments: Iterable[object]) -> Iterator[Table]:
    for argument in arguments:
        if isinstance(argument, Table):
            yield argument
        elif isinstance(argument, tuple):
            yield from _tables_of(argument)


def _literal(argument: object, text: Text) -> str:
    match argument:
        case tuple():
            return f"{{{', '.join(_literal(each, text) for each in argument)}}}"
        case Table():
            return text.tables.setdefault(argument, f"table_{len(text.tables)}")
        case Epilogue(before, add, after):
            return f"{{.before = {spelled(before)}, .add = {int(add)}, .after = {spelled(after)}}}"
        case Activation():
            return spelled(argument)
        case ByteEpilogue():
            return argument.in_c()
        case float() | int() | np.integer():
            return number(argument) if isinstance(argument, float) else str(int(argument))
    raise AssertionError(f"{argument!r} has no text in C")


def _pointer(view: TensorView, plan: Plan) -> str:
    buffer, offset = plan.buffers[view.buffer], view.offset
    plain = buffer.element == FLOAT32
    if buffer.space == "arena":
        cast = "" if plain else f"({buffer.element.c} *)"
        return f"{cast}a + {offset + plan.arena.offsets[view.buffer] // buffer.element.bytes}"
    if buffer.space == "weights":
        cast = "" if plain else f"(const {buffer.element.c} *)"
        return f"{cast}w + {offset}"
    base = tensor_pointer(plan, buffer)
    return f"{base} + {offset}" if offset else base


def _run(plan: Plan, text: Text) -> list[str]:
    return complete(plan, plan.arena.bytes, define_run(plan, text))


def complete(plan: Plan, arena: int, run: Sequence[str]) -> list[str]:
    """Return all functions of a library, for one of `arena` bytes, around those that compute."""
    first, last = sizes(plan, arena), checked_runs(plan)
    if plan.threads == 1:
        return [*first, *run, *last]
    parameters = run_parameters(plan)
    return [
        *first,
        f"NET_API int net_run_parallel({parameters}, {PARALLEL});",
        "",
        *run,
        "",
        *IN_TURN,
        f"int net_run({parameters}) {{",
        "    return net_run_parallel(weights, in, out, arena, in_turn, NULL);",
        "}",
        *last,
    ]


def define_run(plan: Plan, text: Text, mark: str = "") -> list[str]:
    """Return net_run, or of several threads net_run_parallel, with a mark after its name."""
    if plan.threads > 1:
        return _define_regions(plan, text, mark)
    return [
        f"int net_run{mark}({run_parameters(plan)}) {{",
        *permission(plan),
        "    const float *w = (const float *)weights;",
        "    float *a = (float *)arena;",
        "    (void)w, (void)a;",
        *text.body,
        "    return 0;",
        "}",
    ]


def permission(plan: Plan) -> list[str]:
    """Return what ends a call before it takes what the CPU lacks or the system does not lend."""
    return [f"    if (!{function}()) return {REFUSED};" for _, function in asks(plan.target)]


def asks(target: Target) -> list[tuple[str, str]]:
    """Return the headers, each with its function, that tell whether a CPU has what is asked for."""
    asked = (("permission", "net_tiles", target.tiles), ("halves", "net_halves", target.halves))
    return [(header, function) for header, function, used in asked if used]


UNPACK = (
    "    const struct net *net = (const struct net *)network;",
    "    const float *w = net->w;",
    "    float *a = net->a;",
    "    (void)w, (void)a, (void)part;",
)


def _define_regions(plan: Plan, text: Text, mark: str) -> list[str]:
    """Return net_run_parallel with the functions of the regions, and the table of these."""
    in_, out = tensor_parameters(plan)
    return [
        "struct net {",
        "    const float *w;",
        f"    {in_};",
        f"    {out};",
        "    float *a;",
        "};",
        "",
        *text.regions,
        f"int net_run_parallel{mark}({run_parameters(plan)}, {PARALLEL}) {{",
        *permission(plan),
        "    const struct net net = {(const float *)weights, in, out, (float *)arena};",
        "    for (size_t i = 0; i < sizeof regions / sizeof *regions; i++)",
        "        if (regions[i].parts == 1) regions[i].task(&net, 0);",
        "        else parallel(context, regions[i].task, &net, regions[i].parts);",
        "    return 0;",
        "}",
    ]
