"""What a kernel is to the compiler: arguments by name and C type, and what a call of it does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from depthwise.compiler.work import Arguments, Features
from depthwise.graph.dtypes import FLOAT32, DType
from depthwise.hardware.arithmetic import Arithmetic
from depthwise.runtime.target import Target

Kind = Literal[
    "int", "float", "table", "activation", "epilogue", "requantize", "read", "scratch", "ahead",
    "written",
]  # fmt: skip
POINTERS = ("read", "scratch", "ahead", "written")
MEMBERS = {
    "int": "int ", "float": "float ", "table": "const int *", "activation": "struct act ",
    "epilogue": "struct epilogue ", "requantize": "struct requantize ",
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One argument of a kernel: a member of its struct, or a pointer to values of a `dtype`.

    A pointer is read, written, or scratch: memory that the kernel works in, with nothing of use in
    it before or after the call; ahead is only brought closer. `length` is an array's, else 0.
    """

    name: str
    kind: Kind
    length: int = 0
    dtype: DType = FLOAT32

    @property
    def is_pointer(self) -> bool:
        """Whether it points to values that the kernel reads or writes."""
        return self.kind in POINTERS

    @property
    def declaration(self) -> str:
        """What declares it in C."""
        if self.is_pointer:
            constant = "const " if self.kind in ("read", "ahead") else ""
            return f"{constant}{self.dtype.c} *{self.name}"
        length = f"[{self.length}]" if self.length else ""
        return f"{MEMBERS[self.kind]}{self.name}{length}"


Parameters = tuple[Parameter, ...]


@dataclass(frozen=True)
class Kernel:
    """A row of the table. In C, `<dtype>_<name>(const struct <name> *a, <pointers>)`.

    Attributes:
        name: that of the function without its type, and of its struct.
        header: the file that defines it.
        parameters: members of the struct first, then the pointers in the order of C.
        dtype: the element type that its name starts with.
        multiply_add: how long one takes, relative to full speed, where a call is made of them, one
            for each weight and output pixel; 0 for other kernels.
        count: the features that the time of a call is linear in, bytes aside, from its arguments
            and the floats of a vector; None where elements say enough.
        products: the multiply-adds of a call, idle lanes left out.
        arithmetic: what a call does them with on a target; None is vectors of float32.
        reach: the first float that a call reads of `in`, and over how many it reads; None where
            it reads the elements of its view.
        again: how many numbers of its weights a call reads more than once, and how many others
            it reads before each comes again.
        streams: whether a call reads its weights once, from the first to the last; None where it
            never does.
        fetches: the first float of the network's weights that a call asks for before their turn,
            its own or later ones, and how many; None where it never does.
        fills: whether it writes numbers that are no node's value, or that others write over.
        around: whether it only writes around the values that its view shows.
    """

    name: str
    header: str
    parameters: Parameters
    dtype: DType = FLOAT32
    multiply_add: float = 0.0
    count: Callable[[Arguments, int], Features] | None = None
    products: Callable[[Arguments], int] | None = None
    arithmetic: Callable[[Arguments, Target], Arithmetic] | None = None
    reach: Callable[[Arguments], tuple[int, int]] | None = None
    again: Callable[[Arguments, int], tuple[int, int]] | None = None
    streams: Callable[[Arguments], bool] | None = None
    fetches: Callable[[Arguments, int], tuple[int, int]] | None = None
    fills: bool = False
    around: bool = False

    @cached_property
    def c_name(self) -> str:
        """The name of the function in C."""
        return f"{self.dtype.short}_{self.name}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all arguments."""
        return tuple(parameter.name for parameter in self.parameters)

    @cached_property
    def members(self) -> Parameters:
        """The members of its struct."""
        return tuple(p for p in self.parameters if not p.is_pointer)

    @cached_property
    def pointers(self) -> Parameters:
        """What it takes beside the struct."""
        return tuple(p for p in self.parameters if p.is_pointer)

    @cached_property
    def scratch(self) -> tuple[str, ...]:
        """The names of the pointers to memory that a call works in."""
        return tuple(p.name for p in self.parameters if p.kind == "scratch")

    @cached_property
    def ahead(self) -> tuple[str, ...]:
        """The names of the pointers to what a call asks for and does not read."""
        return tuple(p.name for p in self.parameters if p.kind == "ahead")

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The names of the pointers to what a call writes, scratch aside."""
        return tuple(p.name for p in self.parameters if p.kind == "written")

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments in the order of the table: every one, and no other.

        A name that is a word of Python may end with an underscore: in_.
        """
        given: dict[str, Any] = {}
        for name, value in arguments.items():
            given[name.rstrip("_")] = value
        missing, unknown = set(self.names) - set(given), set(given) - set(self.names)
        assert not missing, f"{self.c_name} is called without {sorted(missing)}"
        assert not unknown, f"{self.c_name} has no arguments {sorted(unknown)}"
        for parameter in self.parameters:
            value = given[parameter.name]
            length = len(value) if isinstance(value, tuple) else 0
            assert length == parameter.length, f"{self.c_name}: {parameter.declaration} = {value}"
        return {name: given[name] for name in self.names}
