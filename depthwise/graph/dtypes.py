"""The element types of tensors: one row each, which everything that depends on a type looks up.

A type is known by its name, which PyTorch, NumPy and ONNX share. NumPy has no bfloat16: its bits
are stored in uint16, its numbers are computed in float32, of which it is the upper half.
"""

from dataclasses import dataclass

import numpy as np

SHORT = {"bfloat": "bf", "int": "s"}  # others are known by their first letter


@dataclass(frozen=True)
class DType:
    """An element type.

    `storage` is the NumPy type of its bits in memory, `numpy` that of its numbers in arithmetic;
    the two differ where NumPy lacks the type. `c` is what C calls it, `code` how net.h tells the
    type of a library's tensor, 0 for those that no library takes or gives yet.
    """

    name: str
    bits: int
    c: str
    code: int
    storage: np.dtype
    numpy: np.dtype

    @property
    def bytes(self) -> int:
        """The bytes of one element."""
        return self.bits // 8

    @property
    def short(self) -> str:
        """The name as kernels bear it: f32, bf16, s8, u8."""
        kind = self.name.rstrip("0123456789")
        return f"{SHORT.get(kind, kind[0])}{self.bits}"

    @property
    def is_floating(self) -> bool:
        """Whether its numbers are real and have fractions."""
        return self.numpy.kind == "f"

    @property
    def is_integer(self) -> bool:
        """Whether its numbers are whole, with or without a sign."""
        return self.numpy.kind in "iu"

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Return numbers as they are stored, rounded to the nearest, ties to even.

        Where the type is narrower than the numbers': beyond its range floating numbers become
        infinite, fractions of integers are cut off, and integers wrap around.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = np.asarray(numbers).astype(self.numpy, copy=False)
        return numbers if self.storage == self.numpy else _upper_half(numbers)

    def decode(self, data: np.ndarray) -> np.ndarray:
        """Return the numbers of stored data."""
        if self.storage == self.numpy:
            return data
        return (data.astype(np.uint32) << 16).view(np.float32)

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return numbers drawn at random, such as networks take.

        Standard normal ones, all of the bytes, both booleans, and of other integers 0 to 9, which
        may be indices.
        """
        if self.is_floating:
            return random.standard_normal(shape, np.float32).astype(self.numpy, copy=False)
        count = {"bool": 2, "uint8": 256}.get(self.name, 10)
        return random.integers(0, count, shape).astype(self.numpy)

    def round(self, numbers: np.ndarray) -> np.ndarray:
        """Return the nearest numbers of this type, as `encode` rounds them."""
        return self.decode(self.encode(numbers))


def _upper_half(numbers: np.ndarray) -> np.ndarray:
    """Return the bfloat16 nearest to each float32, as bits; ties go to the even one."""
    bits = np.ascontiguousarray(numbers).view(np.uint32).reshape(numbers.shape)
    halfway = np.uint32(0x7FFF) + ((bits >> 16) & 1)
    rounded = ((bits + halfway) >> 16).astype(np.uint16)
    # the carry would turn a NaN into an infinity, or into zero
    quiet = (bits >> 16).astype(np.uint16) | np.uint16(0x0040)
    return np.where(np.isnan(numbers), quiet, rounded)


def _row(name: str, c: str, code: int = 0, storage: str = "", numpy: str = "") -> DType:
    stored = np.dtype(storage or name)
    return DType(name, 8 * stored.itemsize, c, code, stored, np.dtype(numpy or name))


DTYPES: dict[str, DType] = {
    row.name: row
    for row in (
        _row("float32", "float", 4),
        _row("float64", "double"),
        _row("float16", "unsigned short"),  # its bits: few C compilers have _Float16
        _row("bfloat16", "unsigned short", 0, "uint16", "float32"),
        _row("bool", "unsigned char", 2),  # 0 or 1: C++ has no _Bool
        _row("uint8", "unsigned char", 1),
        _row("uint16", "unsigned short"),
        _row("uint32", "unsigned int"),
        _row("uint64", "unsigned long long"),
        _row("int8", "signed char", 3),
        _row("int16", "short", 5),
        _row("int32", "int", 6),
        _row("int64", "long long", 7),
        _row("complex64", "float _Complex"),
        _row("complex128", "double _Complex"),
    )
}


FLOAT32 = DTYPES["float32"]  # what kernels compute in where nothing else is asked for
BFLOAT16, FLOAT16 = DTYPES["bfloat16"], DTYPES["float16"]
NARROW = (BFLOAT16, FLOAT16)  # what kernels of 16 bits compute with
UINT8 = DTYPES["uint8"]  # what raw images are made of, and values of quantised networks
INT8, INT32 = DTYPES["int8"], DTYPES["int32"]  # their weights, and sums of products
WHOLE_FLOATS = 2**24  # up to which float32 holds every whole number
LIBRARY_DTYPES = tuple(row.name for row in DTYPES.values() if row.code)
CONVERTED = tuple(row for row in DTYPES.values() if row.code and row != FLOAT32)


def find_dtype(name: str) -> DType:
    """Return the row of a type. Raises ValueError for a name that no row has."""
    if name not in DTYPES:
        raise ValueError(f"element type {name!r} is not known: there are {', '.join(DTYPES)}")
    return DTYPES[name]
