"""WebDataset shards: every image once, in any order, by its offset; what is damaged is refused."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depthwise.training.data.opening import open_dataset
from depthwise.training.data.shard_images import ShardImages
from depthwise.training.data.tar_index import index_shard

LONG = "a_folder_with_a_long_name/" * 6  # no header has room for it: it needs one of its own


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(number):
    """Return a small PNG unlike all others."""
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_tar(path, members, **options):
    """Write a tar file of (name, bytes or text); return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            file = io.BytesIO(content.encode() if isinstance(content, str) else content)
            header = tarfile.TarInfo(name)
            header.size = len(file.getbuffer())
            tar.addfile(header, file)
    return path


def samples(numbers, classes=2, label="cls", start=""):
    """Yield the members of some samples: the class is the number's remainder."""
    for number in numbers:
        text = number % classes
        yield f"{start}{number:04d}.png", picture(number)
        yield (
            f"{start}{number:04d}.{label}",
            json.dumps({"label": text}) if label == "json" else f"{text}\n",
        )


def contents(split):
    return [split.images.read(index) for index in range(len(split.images))]


def test_each_image_is_read_once_with_its_label_by_offset(tmp_path):
    for number in range(3):
        own = range(10 * number, 10 * number + 10)
        write_tar(tmp_path / f"set/train-{number:03d}.tar", samples(own, start=LONG))
    write_tar(tmp_path / "set/val-000.tar", samples(range(30, 36), label="json"))
    data = open_dataset(str(tmp_path / "set"))
    assert data.classes == ("0", "1")
    assert data.test is None
    for split, numbers in ((data.train, range(30)), (data.validation, range(30, 36))):
        found = dict(zip(contents(split), split.labels.tolist(), strict=True))
        assert found == {picture(number): number % 2 for number in numbers}
    order = np.random.default_rng(0).permutation(30)
    images = data.train.images
    assert [images.read(index) for index in order] == [picture(number) for number in order]
    assert images.name(12) == f"{tmp_path}/set/train-001.tar/{LONG}0012.png"
    assert images.size(3) == len(picture(3))
    assert images.ending(3) == picture(3)
    by_rank = Counter(images.read(index) for rank in range(4) for index in range(rank, 30, 4))
    assert by_rank == Counter(picture(number) for number in range(30))


def test_braces_folders_and_single_shards_name_the_same_images(tmp_path):
    for split, numbers in (("train", range(20)), ("val", range(20, 24)), ("test", range(24, 26))):
        for part in (0, 1):
            own = numbers[part::2]
            write_tar(tmp_path / f"flat/{split}-{part:02d}.tar", samples(own))
            write_tar(tmp_path / f"deep/{split}/{part:02d}.tar", samples(own))
    names = (
        "flat",
        "deep",
        "flat/{train,val,test}-{00..01}.tar",
        "deep/{train,val,test}/{00..01}.tar",
    )
    for name in names:
        data = open_dataset(tmp_path / name)
        sizes = [len(split.images) for split in (data.train, data.validation, data.test)]
        assert sizes == [20, 4, 2], name
        assert sorted(contents(data.train)) == sorted(map(picture, range(20)))
    alone = open_dataset(tmp_path / "flat/train-{00..01}.tar", seed=1)
    assert [len(alone.train.images), len(alone.validation.images)] == [18, 2]
    whole = contents(alone.train) + contents(alone.validation)
    assert sorted(whole) == sorted(map(picture, range(20)))
    assert alone.validation.labels.tolist() == [0, 1]


def test_labels_are_matched_by_name(tmp_path):
    members = [
        ("a.png", picture(0)), ("a.cls", "2"), ("b.png", picture(1)), ("b.json", '{"label": 10}'),
        ("c.png", picture(2)), ("c.cls", "2"), ("c.json", '{"label": 7}'),
        ("d.png", picture(3)), ("d.cls", "10"), ("e.txt", "a caption"), ("f.cls", "2"),
    ]  # fmt: skip
    path = write_tar(tmp_path / "set/train.tar", members)
    write_tar(tmp_path / "set/val.tar", [("g.png", picture(4)), ("g.cls", "10")])
    data = open_dataset(path.parent)
    assert data.classes == ("2", "10")
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert data.validation.labels.tolist() == [1]
    assert f"{path} has labels without an image: f" in " ".join(data.notes)
    lines = [f"class {number}" for number in range(11)]
    (path.parent / "classes.txt").write_text("\n".join(lines) + "\n")
    data = open_dataset(path.parent)
    assert data.classes == ("class 2", "class 10")
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert "no image is of class 0, class 1, class 3" in " ".join(data.notes)


def test_the_ending_of_a_large_image_is_its_last_bytes(tmp_path):
    content = picture(0) * 60
    path = write_tar(tmp_path / "a.tar", [("a.png", content), ("a.cls", "1")])
    images = ShardImages.of({str(path): index_shard(str(path))})
    assert images.ending(0) == content[-4096:]


def test_an_index_is_kept_until_its_shard_changes(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", samples(range(4)))
    index = index_shard(str(path))
    images = ShardImages.of({str(path): index})
    before = images.fingerprint()
    monkeypatch.setattr(tarfile, "open", lambda **_: pytest.fail("read again"))
    assert index_shard(str(path)) == index
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tar(path, samples(range(4, 10)))
    assert len(index_shard(str(path)).names) == 6
    assert images.fingerprint() != before
    (kept,) = (tmp_path / "cache/depthwise/shards").iterdir()
    kept.write_text(kept.read_text()[:-9])
    assert len(index_shard(str(path)).names) == 6
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut short"):
        images.read(3)


def test_no_damage_loses_an_image_silently(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(range(3)), format=tarfile.USTAR_FORMAT)
    whole, index = path.read_bytes()[: 12 * 512 + 1024], index_shard(str(path))
    path.write_bytes(whole)
    assert index_shard(str(path)) == index
    cut = [whole[:length] for length in range(0, len(whole), 250)]
    places = [at for at in range(0, len(whole) - 1024, 41) if at % 1024 < 512]  # of the headers
    flipped = [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in places]
    for damaged in (*cut, *flipped, whole[: 4 * 512], whole + whole, b"", b"no tar file" * 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.tar"):
            index_shard(str(path))


def link(path):
    with tarfile.open(path, "w") as tar:
        header = tarfile.TarInfo("a.png")
        header.type, header.linkname = tarfile.LNKTYPE, "b.png"
        tar.addfile(header)


A = ("a.png", picture(0))
REFUSED = {
    r"a\.png has no label: expected a\.cls.* or a\.json": [A],
    r"a\.png and a\.other\.png in one sample": [A, ("a.other.png", picture(1)), ("a.cls", "1")],
    r"a\.png stands twice": [A, A, ("a.cls", "1")],
    r"a\.json has no field `label`, .* only class, x": [A, ("a.json", '{"class": 1, "x": 2}')],
    r"a\.json is no JSON": [A, ("a.json", "{")],
    r"a\.json: its label is \[1, 2\]": [A, ("a.json", '{"label": [1, 2]}')],
    r"a\.json: its label is true": [A, ("a.json", '{"label": true}')],
    r"a\.cls is no label: expected the number or name of one": [A, ("a.cls", " \n")],
    r"a\.cls is no label: expected text in UTF-8": [A, ("a.cls", b"\xff\xfe")],
    r"a\.png has the label -1": [A, ("a.cls", "-1"), *samples(range(3))],
    r"numbers at .*0000\.png and names at .*a\.png": [A, ("a.cls", "cat"), *samples(range(3))],
    r"one class only, 1": [A, ("a.cls", "1")],
    r"has no images": [("a.cls", "1")],
    r"link or a sparse file": link,
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_no_labelled_image_is_refused_by_name(tmp_path, said):
    members = REFUSED[said]
    if callable(members):
        members(tmp_path / "x.tar")
    else:
        write_tar(tmp_path / "x.tar", members)
    with pytest.raises(ValueError, match=said):
        open_dataset(tmp_path / "x.tar")


def test_names_of_shards_that_mean_nothing_are_refused(tmp_path):
    for name in ("train-0.tar", "other.tar", "sub/train-val.tar"):
        write_tar(tmp_path / name, samples(range(4)))
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz"):
        pass
    (tmp_path / "c.tar").write_bytes((tmp_path / "b.tar.gz").read_bytes())
    for name, said in {
        "{train-0,other}.tar": r"train-0\.tar is of the split train.*other\.tar of none",
        "sub/train-val.tar": "says two splits, train and validation",
        "train-{0..3}.tar": r"no shard at .*train-1\.tar, .*train-2\.tar",
        "train-{0..}.tar": "braces hold numbers",
        "train-{0..999999999}.tar": "braces hold numbers",
        "{0..999}{0..999}.tar": "more than 100,000",
        "b.tar.gz": r"is compressed.*`gzip -d b\.tar\.gz`",
        "c.tar": "is compressed",
    }.items():
        with pytest.raises(ValueError, match=said):
            open_dataset(tmp_path / name)
    (tmp_path / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(ValueError, match=r"classes\.txt has a class twice"):
        open_dataset(tmp_path / "train-0.tar")
    for text, said in (("cat\n", "label 1, and no class"), ("1\n0\n", "name or a place")):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=said):
            open_dataset(tmp_path / "train-0.tar")


def test_a_tar_file_beside_folders_of_images_is_no_shard(tmp_path):
    for number, name in enumerate(("cat", "dog", "cat", "dog")):
        folder = Path(tmp_path / "set" / name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(picture(number))
    write_tar(tmp_path / "set/all.tar", samples(range(8)))
    assert open_dataset(tmp_path / "set").classes == ("cat", "dog")
