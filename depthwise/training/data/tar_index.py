"""Where the images of a WebDataset shard lie, and what their labels are.

A shard is a tar file. What stands in it under one name up to the name's first dot is a sample:
`a/17.jpg` with `a/17.cls`, the class's number or name, or `a/17.json`, whose field `label` says it.
The headers are read once; what they said is kept in the cache, beside the shard's size and time.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import BinaryIO, Self

from depthwise.errors import BuildError
from depthwise.files.cache import cache_directory, hash_bytes, keep_text
from depthwise.training.data.assembling import listed
from depthwise.training.data.decode import IMAGE_SUFFIXES

VERSION = 1  # of what is kept
BLOCK = 512  # bytes: all parts of a tar file begin at a multiple of it
LABELS = ("cls", "json")  # of two, the first says the class
LONGEST_LABEL = 2**20  # bytes
PIECE = 2**20  # bytes of what stands after the end mark that are read at a time
COMPRESSED = {b"\x1f\x8b": "gzip -d", b"BZh": "bzip2 -d", b"\xfd7zXZ": "xz -d",
              b"\x28\xb5\x2f\xfd": "zstd -d"}  # fmt: skip


@dataclass(frozen=True)
class ShardIndex:
    """The samples of a shard that have an image, in the order of their images.

    Attributes:
        names: The images' names in the tar file.
        offsets: The byte at which each begins.
        sizes: How many bytes each has.
        labels: What says each one's class: a number or a name.
        notes: Sentences on what is not used.
    """

    names: list[str]
    offsets: list[int]
    sizes: list[int]
    labels: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Member:
    """A file in a tar file."""

    name: str
    offset: int
    size: int

    @classmethod
    def of(cls, info: tarfile.TarInfo) -> Self:
        """Return what is used of a header."""
        return cls(info.name, info.offset_data, info.size)


def index_shard(path: str) -> ShardIndex:
    """Return what a shard holds, from the cache where it is unchanged.

    Raises ValueError for one that cannot be read, is compressed or damaged, or that has a sample
    without a label.
    """
    stamp = stamp_of(path)
    kept = cache_directory() / "shards" / f"{hash_bytes(os.fsencode(os.path.abspath(path)))}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, another version, or damaged
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known.pop("stamp") == stamp:
            return ShardIndex(**known)
    index = _scan(path)
    with suppress(BuildError):  # no cache: it is read again the next time
        keep_text(kept, json.dumps({"stamp": stamp, **asdict(index)}))
    return index


def stamp_of(path: str) -> str:
    """Return a text that differs once a file has another size or time. Raises ValueError."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return f"{VERSION} {found.st_size} {found.st_mtime_ns}"


def _scan(path: str) -> ShardIndex:
    try:
        with open(path, "rb") as file:
            _refuse_compressed(path, file)
            samples = _samples(path, file)
            return _index(path, file, samples)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None


def _refuse_compressed(path: str, file: BinaryIO) -> None:
    start = file.read(8)
    for magic, command in COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(
                f"{path} is compressed: no image in it can be read by itself; decompress it "
                f"(`{command} {os.path.basename(path)}`): compressed images hardly grow by that"
            )


def _samples(path: str, file: BinaryIO) -> dict[str, dict[str, Member]]:
    """Return the images and labels of each sample, by what follows its name's first dot."""
    samples: dict[str, dict[str, Member]] = {}
    for info in _headers(path, file):
        folder, _, name = info.name.rpartition("/")
        start, _, kind = name.partition(".")
        if not start or "__MACOSX" in folder or not (_is_image(kind) or kind in LABELS):
            continue  # hidden, or of no use here
        where = f"{path}/{info.name}"
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise ValueError(
                f"{where} is a link or a sparse file: its bytes are not in one piece there; pack "
                "the files themselves (GNU tar: --dereference --hard-dereference, no --sparse)"
            )
        sample = samples.setdefault(f"{folder}/{start}", {})
        if kind in sample:
            raise ValueError(f"{where} stands twice in it: pack each file once")
        sample[kind] = Member.of(info)
    return samples


def _headers(path: str, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the header of each member. Raises ValueError where it does not end as it has to."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  (all would be kept)
                yield info
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise ValueError(
            f"{path} is no tar file, or is damaged or cut short: {error}; pack it again"
        ) from None
    _refuse_more(path, file, end)


def _refuse_more(path: str, file: BinaryIO, end: int) -> None:
    """Raise ValueError unless there are only zeros from `end`, at least the two blocks of a mark.

    tarfile stops without a word at a damaged header, and where a file was cut between members.
    """
    file.seek(end)
    length = 0
    while piece := file.read(PIECE):
        if piece.count(0) != len(piece):
            raise ValueError(
                f"{path} is damaged at byte {end}, or another tar file was appended there: pack "
                "it again"
            )
        length += len(piece)
    if length < 2 * BLOCK:
        raise ValueError(
            f"{path} ends at byte {end + length} without the two blocks of zeros that end a tar "
            "file: it was cut short; copy or pack it again"
        )


def _index(path: str, file: BinaryIO, samples: dict[str, dict[str, Member]]) -> ShardIndex:
    rows: list[tuple[Member, str]] = []
    bare: list[str] = []
    for sample, members in samples.items():
        images = [member for kind, member in members.items() if _is_image(kind)]
        if len(images) > 1:
            raise ValueError(
                f"{path} has {images[0].name} and {images[1].name} in one sample, since a sample's "
                "name ends at its first dot: give each sample one image, or rename them"
            )
        if images:
            rows.append((images[0], _label(path, file, images[0], members)))
        else:
            bare.append(sample.removeprefix("/"))
    rows.sort(key=lambda row: row[0].offset)
    notes = [f"{path} has labels without an image: {listed(bare)}"] if bare else []
    return ShardIndex(
        names=[image.name for image, _ in rows],
        offsets=[image.offset for image, _ in rows],
        sizes=[image.size for image, _ in rows],
        labels=[label for _, label in rows],
        notes=notes,
    )


def _label(path: str, file: BinaryIO, image: Member, members: dict[str, Member]) -> str:
    """Return what says an image's class."""
    kind = next((kind for kind in LABELS if kind in members), None)
    if kind is None:
        stem = image.name[: -len(_kind(image.name))]
        raise ValueError(
            f"{path}/{image.name} has no label: expected {stem}cls, with the number or name of its "
            f"class, or {stem}json with a field `label`"
        )
    where = f"{path}/{members[kind].name}"
    if members[kind].size > LONGEST_LABEL:
        raise ValueError(f"{where} is no label: it has {members[kind].size} bytes")
    file.seek(members[kind].offset)
    try:
        text = file.read(members[kind].size).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{where} is no label: expected text in UTF-8") from None
    label = _field(where, text) if kind == "json" else text
    if not label or "\n" in label:
        raise ValueError(f"{where} is no label: expected the number or name of one class")
    return label


def _field(where: str, text: str) -> str:
    """Return the field `label` of a JSON text."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error}") from None
    if not isinstance(fields, dict) or "label" not in fields:
        found = f"only {', '.join(fields)}" if isinstance(fields, dict) and fields else "none"
        raise ValueError(f"{where} has no field `label`, of its fields {found}: add it")
    label = fields["label"]
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise ValueError(
            f"{where}: its label is {json.dumps(label)}; expected the number or name of one class"
        )
    return str(label).strip()


def _kind(name: str) -> str:
    """Return what follows the first dot of a file's name."""
    return name.rpartition("/")[2].partition(".")[2]


def _is_image(kind: str) -> bool:
    return f".{kind.rpartition('.')[2]}".lower() in IMAGE_SUFFIXES
