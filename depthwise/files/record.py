"""What our JSON files are made of."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A part of a file that we write: never changed, and nothing in it that we do not know."""

    # JSON has no infinity: it is written as text, which is read back as the number
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
