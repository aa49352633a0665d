"""What our JSON files are made of."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Record(BaseModel):
    """A part of a file that we write: never changed, and nothing in it that we do not know."""

    # JSON has no infinity: it is written as text, which is read back as the number
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def first_fault(error: ValidationError) -> str:
    """Return where a file is not what it should be, and why, in a line: the first of its faults."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the file"
    return f"{where}: {first['msg']}"
