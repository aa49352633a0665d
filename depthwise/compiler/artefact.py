"""A library on disk: C, weights, shared library, manifest, examples; written all or not at all."""

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from depthwise.compiler import manifest as manifests
from depthwise.compiler.build import OPTIMISE, replace_text, thread_flags
from depthwise.compiler.manifest import Manifest, Record, read_manifest
from depthwise.compiler.target import find_target
from depthwise.spelling import check_c, in_c_comment, in_json

SOURCE, WEIGHTS = "net.c", "net.weights"
TEMPLATES = ("net.h", "example.c", "example.cpp")
WEB = ("net.js", "example.mjs", "example.html")  # of a WebAssembly library
SHARED = {".so": "libnet.so", ".dylib": "libnet.dylib", ".wasm": "net.wasm"}
REPORT, FIGURES = "report.html", "report.json"
OURS = {SOURCE, WEIGHTS, manifests.NAME, *TEMPLATES, *WEB, *SHARED.values()}
STATE = ".depthwise"  # what unfinished work keeps there: it stays when a library is replaced


@dataclass(frozen=True, eq=False)
class Artefact:
    """All parts of a library: its C text, its weights as bytes, and the path of what was built."""

    manifest: Manifest
    source: str
    weights: np.ndarray
    shared: Path


def write_artefact(artefact: Artefact, directory: Path) -> None:
    """Write every file of a library to `directory`, in place of one that was saved there before.

    Raises ValueError where the directory holds anything else, OSError where it cannot be
    written; both leave what was there.
    """
    directory = directory.resolve()
    check_replaceable(directory)
    with _replacing(directory) as folder:
        (folder / SOURCE).write_text(artefact.source, encoding="utf-8")
        artefact.weights.tofile(folder / WEIGHTS)
        shutil.copyfile(artefact.shared, folder / SHARED[artefact.shared.suffix])
        (folder / manifests.NAME).write_text(
            in_json(artefact.manifest.model_dump_json(indent=2)) + "\n", encoding="utf-8"
        )
        for name in TEMPLATES:
            text = render_template(name, artefact.manifest)
            (folder / name).write_text(text, encoding="utf-8")
        for name in WEB if artefact.shared.suffix == ".wasm" else ():
            (folder / name).write_bytes((_templates() / "web" / name).read_bytes())


def add_report(directory: Path, page: str, figures: str) -> None:
    """Write report.html and report.json beside a saved library, and name them in its manifest.

    Each file is written whole or not at all. Raises ValueError for a directory that is no saved
    library, OSError where it cannot be written.
    """
    manifest = read_manifest(directory).model_copy(update={"report": FIGURES})
    replace_text(directory / FIGURES, in_json(figures))
    replace_text(directory / REPORT, page)
    replace_text(directory / manifests.NAME, in_json(manifest.model_dump_json(indent=2)) + "\n")


def read_artefact(directory: Path) -> Artefact:
    """Read a saved library; its weights are mapped, read-only.

    Raises ValueError for a directory that is no saved library, or weights that are not those
    that were saved.
    """
    manifest = read_manifest(directory)
    target = find_target(manifest.build.target)
    shared = directory / SHARED[target.suffix]
    for path in (shared, directory / SOURCE, directory / WEIGHTS):
        if not path.is_file():
            raise ValueError(f"{directory} is no whole library: {path.name} is missing from it")
    _check_hash(shared, hash_file(shared), manifest.build.library_sha256)  # else opening may crash
    weights = _map_weights(directory / WEIGHTS, manifest)
    return Artefact(manifest, (directory / SOURCE).read_text(encoding="utf-8"), weights, shared)


def render_template(name: str, manifest: Manifest) -> str:
    """Return the text of net.h or of an example for this network."""
    target = find_target(manifest.build.target)
    march = () if target.architecture == "wasm32" else (target.march,)  # its C runs anywhere
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = (_templates() / f"{name}.jinja").read_text("utf-8")
    bytes_ = any(tensor.dtype == "uint8" for tensor in manifest.network.inputs)
    manifest = _spelled(manifest)
    text = environment.from_string(template).render(
        bytes=bytes_, number="unsigned char" if bytes_ else "float", network=manifest.network,
        memory=manifest.memory, version=manifest.depthwise,
        target=target, threads=manifest.build.threads,
        command=" ".join(("cc", *OPTIMISE, *march, *thread_flags(manifest.build.threads))),
    )  # fmt: skip
    return check_c(text)


def _spelled(value: Any) -> Any:
    """Return a part of a manifest with its texts as a comment of C may hold them."""
    match value:
        case str():
            return in_c_comment(value)
        case tuple():
            return tuple(map(_spelled, value))
        case Record():
            return value.model_copy(update={name: _spelled(part) for name, part in value})
    return value


def _templates() -> Traversable:
    return files("depthwise") / "compiler" / "templates"


def hash_weights(weights: np.ndarray) -> str:
    """Return the SHA-256 of weights, as the manifest holds it."""
    return hashlib.sha256(weights.data).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, as the manifest holds it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _map_weights(path: Path, manifest: Manifest) -> np.ndarray:
    expected, found = manifest.memory.weights_bytes, path.stat().st_size
    if found != expected:
        raise ValueError(
            f"{path} has {found} bytes where {manifests.NAME} says {expected}: the file was cut "
            "or belongs to another library; copy or save it again"
        )
    if not expected:
        return np.empty(0, np.uint8)  # nothing can be mapped of an empty file
    weights = np.memmap(path, np.uint8, mode="r")
    _check_hash(path, hash_weights(weights), manifest.memory.weights_sha256)
    return weights


def _check_hash(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path} was altered: its SHA-256 is not the one in {manifests.NAME}; copy or save "
            "the library again"
        )


def check_replaceable(directory: Path) -> None:
    """Raise ValueError where a directory holds what we did not write."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file: give the name of a directory to save to")
    found = {path.name for path in directory.iterdir()} - {STATE}
    foreign = found - OURS - {REPORT, FIGURES}
    strange = sorted(foreign) or sorted(found if manifests.NAME not in found else ())
    if strange:
        raise ValueError(
            f"{directory} holds {strange[0]}, which is no part of a saved library: choose another "
            "directory, or empty this one"
        )


@contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """Give a new folder to write to; then it stands at `directory`, or nothing has changed."""
    mark = uuid.uuid4().hex[:12]
    new, old = (directory.with_name(f".{directory.name}.{kind}{mark}") for kind in ("new", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        if (directory / STATE).is_dir():
            shutil.copytree(directory / STATE, new / STATE)
        try:
            if directory.exists():
                directory.rename(old)
            new.rename(directory)
        except BaseException:  # an interrupt, too, must not take both away
            if old.exists() and not directory.exists():
                old.rename(directory)
            raise
    except OSError as error:
        raise OSError(
            error.errno, f"cannot save there, and nothing was: {error.strerror}", str(directory)
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
