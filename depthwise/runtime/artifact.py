"""A library on disk: C, weights, shared library, manifest, examples; written all or not at all."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from depthwise.escaping import check_c, in_c_comment, in_json
from depthwise.files.atomic import abandoned, exchange, flush, workspace
from depthwise.files.cache import hash_bytes, hash_file
from depthwise.graph.dtypes import FLOAT32, LIBRARY_DTYPES, UINT8, find_dtype
from depthwise.runtime import manifest as manifests
from depthwise.runtime.aligned import aligned_bytes
from depthwise.runtime.manifest import (
    FIGURES,
    REPORT,
    Manifest,
    Record,
    Saved,
    common_element,
    read_saved,
    sealed_text,
)
from depthwise.runtime.target import OPTIMISE, find_target, thread_flags

SOURCE, WEIGHTS = "net.c", "net.weights"
TEMPLATES = ("net.h", "example.c", "example.cpp")
WEB = ("net.js", "example.mjs", "example.html")  # of a WebAssembly library
SHARED = {".so": "libnet.so", ".dylib": "libnet.dylib", ".wasm": "net.wasm"}
OURS = {SOURCE, WEIGHTS, manifests.NAME, *TEMPLATES, *WEB, *SHARED.values()}
STATE = ".depthwise"  # what unfinished work keeps there: it stays when a library is replaced
NEW, OLD = "new", "old"  # in a workspace: what is to stand at the directory, what stood there


@dataclass(frozen=True, eq=False)
class Artifact:
    """All parts of a library: its manifest, C text, weights and shared library."""

    manifest: Manifest
    source: str
    weights: np.ndarray
    shared: bytes


def write_artefact(artifact: Artifact, directory: Path) -> None:
    """Write every file of a library to `directory`, in place of one that was saved there before.

    Raises ValueError where the directory holds anything else, or files of ours that were edited,
    OSError where it cannot be written; all leave what was there.
    """
    if "net_run_checked" not in artifact.source:
        raise ValueError(
            f"{directory}: this library was compiled by an earlier version, without the functions "
            "that net.h would name; compile it again"
        )
    with _replacing(directory, check_replaceable) as folder:
        target = find_target(artifact.manifest.build.target)
        artifact.weights.tofile(folder / WEIGHTS)
        (folder / SHARED[target.suffix]).write_bytes(artifact.shared)
        texts = {name: render_template(name, artifact.manifest) for name in TEMPLATES}
        for name, text in {SOURCE: artifact.source, **texts}.items():
            (folder / name).write_text(text, encoding="utf-8")
        for name in WEB if target.suffix == ".wasm" else ():
            (folder / name).write_bytes((_templates() / "web" / name).read_bytes())
        hashes = {path.name: hash_file(path) for path in folder.iterdir()}
        text = sealed_text(artifact.manifest, hashes)
        (folder / manifests.NAME).write_text(text, encoding="utf-8")
        _carry(directory / STATE, folder / STATE)


def add_report(directory: Path, page: str, figures: str) -> None:
    """Write report.html and report.json beside a saved library, and name them in its manifest.

    All of it is written or nothing, and every other file stays. Raises ValueError for a directory
    that is no saved library, or a report in it that was edited, OSError where it cannot be written.
    """

    def check(place: Path) -> None:
        saved = _check_sealed(place, read_saved(place))
        for name in (REPORT, FIGURES, manifests.NAME):
            if os.path.lexists(place / name):
                _check_ours(place / name, saved)

    with _replacing(directory, check) as folder:
        manifest, seal, _ = read_saved(directory)
        assert seal
        for path in directory.iterdir():
            if path.name not in (REPORT, FIGURES, manifests.NAME):
                _carry(path, folder / path.name)
        hashes = dict(seal.files)
        for name, text in ((FIGURES, in_json(figures)), (REPORT, page)):
            (folder / name).write_text(text, encoding="utf-8")
            hashes[name] = hash_file(folder / name)
        text = sealed_text(manifest.model_copy(update={"report": FIGURES}), hashes)
        (folder / manifests.NAME).write_text(text, encoding="utf-8")


def read_artefact(directory: Path) -> Artifact:
    """Read a saved library, whole, into memory: what happens to its files then is of no matter.

    Raises ValueError for a directory that is no saved library, or files that are not those that
    were saved.
    """
    _recover(directory)
    while True:
        before = _identity(directory)
        try:
            return _read(directory)
        except ValueError:
            if _identity(directory) == before:  # else another was saved there meanwhile
                raise


def _read(directory: Path) -> Artifact:
    saved = read_saved(directory)
    manifest, sealed = saved.manifest, saved.seal.files if saved.seal else {}
    shared = directory / SHARED[find_target(manifest.build.target).suffix]
    for path in (shared, directory / SOURCE, directory / WEIGHTS):
        if not path.is_file():
            raise ValueError(f"{directory} is no whole library: {path.name} is missing from it")
    try:
        code, source = shared.read_bytes(), (directory / SOURCE).read_bytes()
        weights = _read_weights(directory / WEIGHTS, manifest.memory.weights_bytes)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from None
    _check_hash(shared, hash_bytes(code), manifest.build.library_sha256)  # else opening may crash
    _check_hash(directory / WEIGHTS, hash_weights(weights), manifest.memory.weights_sha256)
    if SOURCE in sealed:
        _check_hash(directory / SOURCE, hash_bytes(source), sealed[SOURCE])
    try:
        return Artifact(manifest, source.decode(), weights, code)
    except UnicodeDecodeError:
        raise ValueError(f"{directory / SOURCE} is no UTF-8: save the library again") from None


def render_template(name: str, manifest: Manifest) -> str:
    """Return the text of net.h or of an example for this network."""
    target = find_target(manifest.build.target)
    march = () if target.architecture == "wasm32" else (target.march,)  # its C runs anywhere
    # imported when a library is saved: programs that only run one need no jinja2
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FunctionLoader(lambda name: (_templates() / f"{name}.jinja").read_text("utf-8")),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    network = manifest.network
    given, made = common_element(network.inputs), common_element(network.outputs)
    manifest = _spelled(manifest)
    text = environment.get_template(name).render(
        types=[find_dtype(name) for name in LIBRARY_DTYPES], given=given, made=made,
        typed=not (given and made and made == FLOAT32 and given in (FLOAT32, UINT8)),
        network=manifest.network,
        compiler=manifest.build.compiler,
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
    return files("depthwise.runtime") / "templates"


def hash_weights(weights: np.ndarray) -> str:
    """Return the SHA-256 of weights, as the manifest holds it."""
    return hash_bytes(weights.data)


def check_replaceable(directory: Path) -> None:
    """Raise ValueError where a directory holds what we did not write, or what was edited since.

    Raises OSError where nothing can be written to the folder that it is to lie in.
    """
    directory = find_place(directory)
    if not directory.exists():
        above = next(path for path in directory.parents if path.exists())
    elif not directory.is_dir():
        raise ValueError(f"{directory} is a file: give the name of a directory to save to")
    else:
        above = directory.parent
        _check_movable(directory)
        found = _entries(directory)
        saved = _check_sealed(directory, _read_own(directory)) if found else None
        for path in found:
            _check_ours(path, saved)
    if above.is_dir() and not os.access(above, os.W_OK):
        raise PermissionError(errno.EACCES, "nothing can be written there", str(above))


def _check_movable(directory: Path) -> None:
    """Raise ValueError for a directory in whose place nothing else can be put."""
    with suppress(OSError):  # where we are was removed
        if directory.samefile(os.curdir):
            raise ValueError(
                f"{directory} is the current directory, which cannot be replaced while it is in "
                "use: give the name of a directory in it"
            )
    if directory.is_mount():
        raise ValueError(
            f"{directory} is a mount point, which cannot be replaced: give the name of a "
            "directory in it"
        )


def _check_sealed(directory: Path, saved: Saved | None) -> Saved | None:
    """Raise ValueError for a library whose files we cannot tell from others."""
    if saved and not saved.seal:
        raise ValueError(
            f"{directory} was saved by an earlier version, which left no record of what it wrote: "
            "move it away, or choose another directory"
        )
    return saved


def find_place(directory: Path) -> Path:
    """Return a directory's own path, without links. Raises ValueError where they lead nowhere."""
    try:
        return directory.resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{directory} is no place to save to: {error}") from None


def _entries(directory: Path) -> list[Path]:
    """Return what lies in a directory beside our state."""
    try:
        found = sorted(directory.iterdir())
    except OSError as error:
        raise ValueError(f"{directory} cannot be read: {error.strerror}") from None
    state = directory / STATE
    return [path for path in found if path != state or state.is_symlink() or not state.is_dir()]


def _read_own(directory: Path) -> Saved | None:
    try:
        return read_saved(directory)
    except ValueError:
        return None


def _check_ours(path: Path, saved: Saved | None) -> None:
    """Raise ValueError for anything but a file that we wrote, as we wrote it."""
    known = saved.seal.files if saved and saved.seal else {}
    is_manifest = path.name == manifests.NAME and bool(known)
    if path.name not in known and not is_manifest:
        raise ValueError(
            f"{path.parent} holds {path.name}, which is no part of a saved library: choose another "
            "directory, or empty this one"
        )
    assert saved
    if path.is_symlink() or not path.is_file():
        same = False
    elif is_manifest:
        same = not saved.edited
    elif path.name == WEIGHTS and path.stat().st_size < saved.manifest.memory.weights_bytes:
        same = True  # cut short: no finished work
    else:
        same = hash_file(path) == known[path.name]
    if not same:
        raise ValueError(
            f"{path} was changed since it was saved: move it elsewhere, or choose another directory"
        )


def _check_hash(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{path} was altered: its SHA-256 is not the one in {manifests.NAME}; copy or save "
            "the library again"
        )


def _read_weights(path: Path, size: int) -> np.ndarray:
    """Read weights, aligned; not mapped, for a file may be cut after it was checked."""
    found = path.stat().st_size
    if found != size:
        raise ValueError(
            f"{path} has {found} bytes where {manifests.NAME} says {size}: the file was cut "
            "or belongs to another library; copy or save it again"
        )
    weights = aligned_bytes(size)
    with path.open("rb") as file:
        if file.readinto(weights.data) != size:
            raise ValueError(f"{path} was cut while it was read; copy or save the library again")
    return weights


def _carry(source: Path, to: Path) -> None:
    """Bring a file, link or folder along; files get one more name where that is possible."""
    if source.is_symlink():
        to.symlink_to(source.readlink())
    elif source.is_dir():
        to.mkdir()
        shutil.copystat(source, to)
        for path in source.iterdir():
            _carry(path, to / path.name)
    elif source.exists():
        try:
            to.hardlink_to(source)
        except OSError:  # not on this file system
            shutil.copy2(source, to)


@contextmanager
def _replacing(directory: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Give a new folder to write to; then it stands at `directory`, or nothing has changed.

    `check` raises ValueError for a directory that must not be replaced: before the work, and once
    more for what was replaced, which then comes back.
    """
    directory = find_place(directory)
    _recover(directory)
    check(directory)
    try:
        with workspace(directory.parent, _prefix(directory)) as folder:
            new, old = folder / NEW, folder / OLD
            new.mkdir()
            yield new
            for path in new.iterdir():
                flush(path)
            if not directory.exists():
                new.rename(directory)
            else:
                shutil.copymode(directory, new)
                _put_in_place(new, directory, old, check)
            flush(directory.parent)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot save there, and nothing was: {error.strerror}", str(directory)
        ) from error


def _put_in_place(new: Path, directory: Path, old: Path, check: Callable[[Path], None]) -> None:
    """Put `new` in the place of `directory`, at once where the system can."""
    if exchange(new, directory):
        try:
            check(new)
        except BaseException:
            exchange(new, directory)
            check(directory)  # which says the same of its own path
            raise
        return
    try:
        directory.rename(old)
        check(old)
        new.rename(directory)
    except BaseException:  # an interrupt, too, must not take both away
        if old.exists() and not directory.exists():
            old.rename(directory)
        raise


def _prefix(directory: Path) -> str:
    return f".{directory.name}.depthwise-"


def _recover(directory: Path) -> None:
    """Remove what killed processes left of saving there, and put back what they took away."""
    with suppress(ValueError, OSError):
        directory = find_place(directory)
        for folder in abandoned(directory.parent, _prefix(directory)):
            if (folder / OLD).is_dir() and not directory.exists():
                (folder / OLD).rename(directory)


def _identity(directory: Path) -> tuple[int, ...] | None:
    """Return what differs once something else stands at the directory: numbers come again."""
    try:
        found = directory.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
