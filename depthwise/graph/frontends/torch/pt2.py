"""A .pt2 file, looked through before PyTorch opens it.

torch.export.load trusts a file: it unpickles, loads shared libraries, evaluates sizes as text and
makes Python code from names. So a file may hold only what a network of fixed shapes needs, in the
spelling that torch.export.save gives it, and everything else is refused before it is opened.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from depthwise.escaping import in_line
from depthwise.graph.frontends.torch.quiet import quiet

MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/(weights|constants|sample_inputs)/model\.pt|extra/[^/]*"
)
PICKLES = re.compile(r"data/(weights|constants|sample_inputs)/model\.pt")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPERATORS = re.compile(
    r"torch\.ops\.(aten|torchvision)\.(?!from_file\.|save\.)\w+\.\w+"  # these two touch files
    r"|torch\.ops\.higher_order\.wrap_with_(set_grad_enabled|autocast)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge)"
)

# What the program's JSON may say where it says anything: the value, or each of a list, by its key.
ALLOWED = {
    "target": OPERATORS,
    "expr_str": re.compile(r"-?\d+|[a-z]+\d+"),  # else it is evaluated
    "name": re.compile(rf"({IDENTIFIER.pattern})?"),
    "as_name": IDENTIFIER,
    "forward_arg_names": IDENTIFIER,
    "use_pickle": re.compile("False"),
    "path_name": re.compile(r"(weight|tensor)_\d+"),
}
# By name too, what the keys of a table are.
NAMES = ("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values")
FORBIDDEN = ("as_custom_obj", "custom_obj", "as_operator", "custom_obj_values")
KEYED = ("builtins.list", "builtins.tuple", "builtins.dict", "collections.OrderedDict", None)

Read = Callable[[str], bytes]


def load_program(path: Path) -> ExportedProgram:
    """Return the program in a .pt2 file; nothing in the file is run.

    Raises ValueError for a file that is missing, damaged, or holds more than a network.
    """
    if not path.is_file():
        raise ValueError(f"no file at {path}: give a .pt2 file that torch.export.save wrote")
    with quiet():
        try:
            found = _foreign(path)
            program = None if found else torch.export.load(path)
        except Exception:  # damaged bytes make the readers raise nearly anything
            raise ValueError(
                f"{path} is no exported program (torch.export.save), or a truncated one"
            ) from None
    if program is None:
        raise ValueError(
            f"{path} holds {in_line(found)}, which no network of fixed shapes needs and which "
            "might run code: export the network again with torch.export.save, or give its module"
        )
    program._guards_code = []  # Python code from the file, to check shapes that are fixed
    return program


def _foreign(path: Path) -> str:
    """Return what a file holds that it should not, empty where there is nothing."""
    with zipfile.ZipFile(path) as archive:
        packed = [info.filename for info in archive.infolist() if info.compress_type]
    if packed:
        return f"the compressed member {packed[0]!r}"
    reader = torch._C.PyTorchFileReader(str(path))  # PyTorch's own, so that both see the same
    names = reader.get_all_records()
    strange = next((name for name in names if not MEMBERS.fullmatch(name)), None)
    if strange:
        return f"the member {strange!r}"
    return next(filter(None, (_look(name, reader.get_record) for name in names)), "")


def _look(name: str, read: Read) -> str:
    """Return what a member holds that it should not."""
    if name.endswith(".json"):
        return _strange(json.loads(read(name)))
    if PICKLES.fullmatch(name):
        try:  # as PyTorch does first: only where it fails are pickles run
            torch.load(io.BytesIO(read(name)), weights_only=True)
        except Exception:
            return f"a pickle of more than tensors, {name!r}"
    return ""


def _strange(value: Any, key: str = "") -> str:
    """Return the first strange thing in a part of the program's JSON."""
    if key in FORBIDDEN and value:
        return f"an object of Python ({key})"
    if key in ("in_spec", "out_spec") and value:
        return _strange_structure(json.loads(value)[1], arguments=key == "in_spec")
    if isinstance(value, dict | list):
        parts = list(value.items()) if isinstance(value, dict) else [(key, x) for x in value]
        parts += [("as_name", name) for name in value if key in NAMES]
        return next(filter(None, (_strange(part, name) for name, part in parts)), "")
    allowed = ALLOWED.get(key)
    fits = value is None or allowed is None or allowed.fullmatch(str(value))
    return "" if fits else f"the {key} {value!r}"


def _strange_structure(spec: dict[str, Any], arguments: bool) -> str:
    """Return the first strange container of inputs or outputs.

    Keys of outputs are plain values, keys of arguments may be names of Python's.
    """
    known_by_name = spec["type"] == "collections.namedtuple"
    if not known_by_name and spec["type"] not in KEYED:
        return f"the container {spec['type']!r}"
    objects: list[Any] = []
    keys = None
    if not known_by_name:
        keys = json.loads(spec["context"] or "null", object_hook=objects.append)
    names = [key for key in keys or () if arguments and isinstance(key, str)]
    if objects or not all(map(IDENTIFIER.fullmatch, names)):  # would be imported, or made code
        return f"the keys {spec['context']!r}"
    parts = (_strange_structure(part, arguments) for part in spec["children_spec"])
    return next(filter(None, parts), "")
