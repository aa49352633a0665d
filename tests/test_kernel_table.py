"""The table of kernels: its rows are what the headers declare, and calls are held to them."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kernel_cases import Case, make_graph, random_arrays
from kernel_harness import PREAMBLE, with_headers

from depthwise import kernels
from depthwise.compiler.codegen.emit import emit, needed_headers
from depthwise.compiler.kernel import Kernel, Parameter
from depthwise.compiler.kernels import KERNELS
from depthwise.compiler.planning import make_plan
from depthwise.graph import ops
from depthwise.graph.ops import Padding
from depthwise.kernels import source
from depthwise.runtime.target import find_target

CONV = Case(ops.Conv2d((1, 1), Padding(1, 1, 1, 1), (1, 1), 1), ((1, 4, 6, 6), (8, 4, 3, 3)), 1)


def in_c(row: Kernel) -> str:
    """Return C that compiles only where a header declares what a row says, twin included."""
    members = "".join(f"{member.declaration}; " for member in row.members)
    offsets = "".join(
        f"_Static_assert(offsetof(struct {row.name}, {p.name}) == "
        f'offsetof(struct row_{row.c_name}, {p.name}), "{row.name}.{p.name}");\n'
        for p in row.members
    )
    size = (
        f'_Static_assert(sizeof(struct {row.name}) == sizeof(struct row_{row.c_name}), "size");\n'
    )
    arguments = ", ".join([f"const struct {row.name} *", *(p.declaration for p in row.pointers)])
    taken = "".join(
        f'_Static_assert(_Generic(&{name}, void (*)({arguments}): 1, default: 0), "{name}");\n'
        for name in (row.c_name, f"{row.c_name}_naive")
    )
    return f"struct row_{row.c_name} {{ {members}}};\n{offsets}{size}{taken}"


def check(rows: list[Kernel], directory: Path) -> str:
    """Return the errors of a C compiler for these rows."""
    headers = "".join(f'#include "{name}.h"\n' for name in needed_headers(KERNELS))
    text = with_headers(f"#define VL 4\n#include <stddef.h>\n{PREAMBLE}{headers}")
    code = directory / "rows.c"
    code.write_text(text + "".join(map(in_c, rows)))
    command = [sys.executable, "-m", "ziglang", "cc", "-std=c11", "-Werror", "-c", str(code)]
    command += ["-o", str(directory / "rows.o")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_headers_declare_what_the_table_says(tmp_path: Path):
    assert check(list(KERNELS.values()), tmp_path) == ""


def test_a_row_that_is_not_what_the_header_declares_is_found(tmp_path: Path):
    fill, softmax, unary = (KERNELS[f"f32_{name}"] for name in ("fill", "softmax", "unary"))
    *before, y = unary.parameters
    wrong = [
        replace(fill, parameters=fill.parameters[::-1]),
        replace(softmax, parameters=(Parameter("size", "int", 3), *softmax.parameters[1:])),
        replace(unary, parameters=(*before, replace(y, kind="read"))),
    ]
    errors = check(wrong, tmp_path)
    for view in (
        "fill.value",
        "no member named 'size' in 'softmax'",
        "f32_unary",
        "f32_unary_naive",
    ):
        assert re.search(rf"error: .*{view}$", errors, re.MULTILINE), errors


def test_every_kernel_of_the_headers_has_a_row():
    texts = (source(f"{name}.h") for name in needed_headers(KERNELS))
    twins = {name for text in texts for name in re.findall(r"INLINE void (\w+)_naive\(", text)}
    assert twins == set(KERNELS)


def test_lines_of_the_headers_stay_readable():
    for header in Path(kernels.__file__).parent.glob("*.h"):
        for number, line in enumerate(header.read_text().splitlines(), 1):
            assert len(line) <= 120, f"{header.name}:{number} has {len(line)} columns"


def test_a_call_has_every_argument_and_no_other():
    row = KERNELS["f32_fill"]
    given = {"value": 1.0, "y": None, "count": 3, "n": (1, 1, 2), "y_stride": (0, 0, 3)}
    assert list(row.bind(given)) == ["n", "count", "y_stride", "value", "y"]
    with pytest.raises(AssertionError, match=r"f32_fill is called without \['count'\]"):
        row.bind({name: value for name, value in given.items() if name != "count"})
    with pytest.raises(AssertionError, match=r"f32_fill has no arguments \['counts'\]"):
        row.bind({**given, "counts": 3})
    with pytest.raises(AssertionError, match=r"f32_fill: int n\[3\] = \(1, 2\)"):
        row.bind({**given, "n": (1, 2)})
    with pytest.raises(AssertionError, match=r"f32_fill: int count = \(3,\)"):
        row.bind({**given, "count": (3,)})


def test_the_c_names_every_number():
    plan = make_plan(make_graph([CONV], random_arrays([CONV], whole=True)), find_target("aarch64"))
    call = r"static const struct conv numbers = \{(.*?)\n    \};\n    f32_conv\(&numbers, (.*?)\);"
    (text,) = re.findall(call, emit(plan), re.S)
    (epilogue,) = re.findall(r"\.epilogue = (\{.*\}),", text[0])
    nothing = "{.kind = ACT_NONE, .a = 0.0f, .b = 0.0f}"
    assert epilogue == f"{{.before = {nothing}, .add = 0, .after = {nothing}}}"
    named = re.findall(r"\.(\w+) = ", text[0].replace(epilogue, ""))
    assert named == [member.name for member in KERNELS["f32_conv"].members]
    assert ".rows = 6, .width = 6, .taps = 9, .channels = 4, .outs = 8" in text[0]
    assert text[1] == "in, w, bias, NULL, next, out"
