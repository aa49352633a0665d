"""One library for a family of CPUs: code for each level, of which each call takes one.

Every level is compiled for its own CPUs, under names of its own. What a program calls, and what
chooses the level, runs on all of them. net.c holds the same levels, and is compiled for one.
"""

from collections.abc import Iterator, Sequence

from depthwise.compiler.codegen.emit import (
    REFUSED,
    complete,
    declare_calls,
    define_calls,
    define_run,
    head,
    join,
    kernel_units,
    lower_to_text,
    preamble,
    threads,
)
from depthwise.compiler.codegen.exports import ARGUMENTS, PARALLEL, run_parameters
from depthwise.compiler.codegen.headers import (
    header_text,
    kernel_texts,
    sizes_of_core,
    with_headers_below,
)
from depthwise.compiler.plan import Plan
from depthwise.runtime.target import Target

# What a compiler says of the CPUs that it compiles for: by this net.c chooses its level.
TOLD = {
    4: "defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) "
    "&& defined(__AVX512CD__) && defined(__AVX512VL__)",
    3: "defined(__AVX2__) && defined(__FMA__)",
}


def emit_family(plans: Sequence[Plan], family: Target) -> str:
    """Return net.c: every level, of which the one for the CPU that it is compiled for is taken."""
    chosen, run = [], []
    for plan in plans:
        level = plan.target.level
        told = TOLD.get(level, "")
        chosen.append((told, [f"#define NET_LEVEL {level}", *sizes_of_core(plan)]))
        text = lower_to_text(plan)
        run.append((f"NET_LEVEL == {level}", [*define_calls(text), "", *define_run(plan, text)]))
    steps = [step for plan in plans for step in plan.steps]
    name, parameters, more = _entry(plans[0])
    lines = [
        *preamble(f"a CPU of {family.name}, whose level is taken"),
        *_either(chosen),
        "",
        *kernel_texts({step.kernel for step in steps}),
        *threads(plans[0]),
        "NET_API int net_level(void);",
        "int net_level(void) { return NET_LEVEL; }",
        *complete(plans[0], _arena(plans), [*_either(run), ""]),
        f"NET_API int {name}_level(int level, {parameters});",
        f"int {name}_level(int level, {parameters}) {{",
        f"    return level == NET_LEVEL ? {name}({more}) : {REFUSED};",
        "}",
        *_in_turn(plans[0]),
        "",
    ]
    return join(lines)


def emit_family_units(
    plans: Sequence[Plan], family: Target, count: int
) -> dict[Target, tuple[str, ...]]:
    """Return the translation units of plans for the levels of a family, by the CPU of each."""
    units = {plan.target: _level_units(plan, count) for plan in plans}
    name, parameters, more = _entry(plans[0])
    choice = [
        *(_declare(plan) for plan in plans),
        f"NET_API int {name}_level(int level, {parameters});",
        f"int {name}_level(int level, {parameters}) {{",
        f"    if (level > net_level()) return {REFUSED};",
        "    switch (level) {",
        *(f"    case {p.target.level}: return {name}{p.target.mark}({more});" for p in plans),
        "    }",
        f"    return {REFUSED};",
        "}",
        f"int {name}({parameters}) {{ return {name}_level(net_level(), {more}); }}",
    ]
    public = [
        *preamble(f"any CPU of {family.name}"),
        *threads(plans[0]),
        *map(header_text, with_headers_below(("levels",))),
        *complete(plans[0], _arena(plans), choice),
        *_in_turn(plans[0]),
        "",
    ]
    return units | {family: (join(public),)}


def _level_units(plan: Plan, count: int) -> tuple[str, ...]:
    text = lower_to_text(plan)
    tasks = [header_text("tasks")] if plan.threads > 1 else []
    main = [*head(plan, ()), *declare_calls(text), "", *tasks, _declare(plan)]
    main += [*define_run(plan, text, plan.target.mark), ""]
    return (join(main), *kernel_units((plan,), text, count))


def _entry(plan: Plan) -> tuple[str, str, str]:
    """Return the function that each level has, its parameters and the arguments to pass on."""
    if plan.threads > 1:
        parameters = f"{run_parameters(plan)}, {PARALLEL}"
        return "net_run_parallel", parameters, f"{ARGUMENTS}, parallel, context"
    return "net_run", run_parameters(plan), ARGUMENTS


def _declare(plan: Plan) -> str:
    name, parameters, _ = _entry(plan)
    return f'__attribute__((visibility("hidden"))) int {name}{plan.target.mark}({parameters});'


def _in_turn(plan: Plan) -> list[str]:
    """Return net_run_level of a library of several threads, which does all parts in turn."""
    if plan.threads == 1:
        return []
    signature = f"int net_run_level(int level, {run_parameters(plan)})"
    run = f"net_run_parallel_level(level, {ARGUMENTS}, in_turn, NULL)"
    return [f"NET_API {signature};", f"{signature} {{ return {run}; }}"]


def _arena(plans: Sequence[Plan]) -> int:
    """Return the bytes of an arena that serves every level."""
    return max(plan.arena.bytes for plan in plans)


def _either(branches: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Yield the lines of each branch under its condition; the last one needs none."""
    for number, (condition, lines) in enumerate(branches):
        first = f"#{'elif' if number else 'if'} {condition}"
        yield first if number < len(branches) - 1 else "#else"
        yield from lines
    yield "#endif"
