"""Sets of images known by name: the bundled one, Fashion-MNIST's IDX files, CIFAR-10's pickles."""

import gzip
import hashlib
import pickle
import struct
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torchvision

from depthwise.training.data import mosaic, named
from depthwise.training.data.idx import read_idx
from depthwise.training.data.named import open_named

DEBIAN = named.DEBIAN
# of the pixels that Zalando's files have, sorted out by class
HASHES = {
    "train": "c0c6726b84344f71ed5f3f778113ef72d81c3e38038638a076d9f7b48ef3af3c",
    "t10k": "80f041a1db53aeefce90d32bb6094e616abf55eed82a9c247b6c2a44a773acf7",
}


def test_the_bundled_set_holds_what_it_says():
    data = open_named("bundled", seed=3)
    parts = (data.train, data.validation, data.test)
    assert [len(part.images) for part in parts] == [9000, 1000, 2000]
    for part, each in zip(parts, (900, 100, 200), strict=True):
        assert np.bincount(part.labels).tolist() == [each] * 10
        assert part.labels.dtype == np.int64
    image = data.train.images.read(17)
    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    assert len(data.classes) == 10
    assert mosaic.BUNDLED_IMAGES.stat().st_size < 6_000_000
    for (pixels, _), expected in zip(mosaic.read_bundled(), HASHES.values(), strict=True):
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="NOT TESTED: apt install dataset-fashion-mnist")
def test_the_bundled_images_are_the_first_of_each_class():
    for (pixels, labels), part in zip(mosaic.read_bundled(), HASHES, strict=True):
        files = (DEBIAN / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        images, numbers = (gzip.decompress(file.read_bytes()) for file in files)
        images = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
        numbers = np.frombuffer(numbers, np.uint8, offset=8)
        for label in range(10):
            mine = pixels[labels == label]
            assert np.array_equal(mine, images[numbers == label][: len(mine)])


def idx(array):
    """Return an array as the bytes of an IDX file."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_fashion(folder, zipped=True, **changed):
    """Write the four files of 40 and 20 images; return the images of both by their files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    held = {}
    for part, count in (("train", 40), ("t10k", 20)):
        held[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        held[f"{part}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % 10
    for name, array in held.items():
        content = idx(changed.get(name.replace("-", "_"), array))
        path = folder / f"{name}{'.gz' * zipped}"
        path.write_bytes(gzip.compress(content) if zipped else content)
    return held


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Have a cache and a folder of Debian's package of our own, and nowhere to download from."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(named, "DEBIAN", tmp_path / "debian")
    redirect(monkeypatch, "http://127.0.0.1:9/")
    return tmp_path


def redirect(monkeypatch, url):
    """Have torchvision download from somewhere else."""
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [url])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")


@pytest.fixture
def mirror(places, monkeypatch):
    """Serve a folder, from which torchvision downloads once this is called."""
    handler = partial(QuietHandler, directory=places / "mirror")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.01,)).start()
    yield partial(redirect, monkeypatch, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    server.server_close()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def check_fashion(held):
    data = open_named("fashion-mnist", seed=2)
    images, labels = held["train-images-idx3-ubyte"], held["train-labels-idx1-ubyte"]
    for split in (data.train, data.validation):
        for row, number in enumerate(split.images.numbers):
            assert np.array_equal(split.images.read(row), images[number])
            assert split.labels[row] == labels[number]
    assert (len(data.train.images), len(data.validation.images)) == (30, 10)
    assert np.array_equal(data.test.images.read(7), held["t10k-images-idx3-ubyte"][7])
    assert data.test.labels.tolist() == [*range(10), *range(10)]


def test_a_split_depends_on_its_seed_alone(places):
    write_fashion(places / "debian")
    first, same, other = (open_named("fashion-mnist", seed=seed) for seed in (1, 1, 2))
    name = "{0.images.numbers}".format
    assert name(first.validation) == name(same.validation) != name(other.validation)
    everyone = np.concatenate([first.train.images.numbers, first.validation.images.numbers])
    assert np.array_equal(np.sort(everyone), np.arange(40))


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist_is_read_where_debian_puts_it(places, zipped):
    check_fashion(write_fashion(places / "debian", zipped))


def test_fashion_mnist_is_downloaded_once_and_whole(places, mirror, monkeypatch):
    with pytest.raises(ValueError, match=r"downloaded: .*refused.*; install .*dataset-fashion-"):
        open_named("fashion-mnist")
    assert not (places / "cache/depthwise/datasets/fashion-mnist").exists()
    mirror()
    held = write_fashion(places / "mirror")
    files = [(f"{name}.gz", md5(places / f"mirror/{name}.gz")) for name in held]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", files)
    check_fashion(held)
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", None)
    check_fashion(held)
    lost = places / "cache/depthwise/datasets/fashion-mnist/t10k-labels-idx1-ubyte"
    for path in (lost, lost.with_suffix(".gz")):
        path.unlink()
    with pytest.raises(ValueError, match="has neither t10k-labels-idx1-ubyte nor"):
        open_named("fashion-mnist")


def test_damaged_idx_files_are_refused_by_name(tmp_path):
    path = tmp_path / "x-idx3-ubyte"
    whole = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    path.write_bytes(whole)
    assert np.array_equal(read_idx(path, 3), np.arange(24).reshape(2, 3, 4))
    zipped = gzip.compress(whole)
    flipped = zipped[:-5] + bytes([zipped[-5] ^ 1]) + zipped[-4:]
    endless = struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3)
    for content, said in {
        b"": "no IDX file of bytes with 3 axes: it starts with nothing",
        b"\x89PNG" + whole: "it starts with 89 50 4e 47, not with 00 00 08 03",
        idx(np.zeros(24, np.uint8)): "starts with 00 00 08 01",
        b"\0\0\x0d\3" + whole[4:]: "starts with 00 00 0d 03",
        whole[:9]: "ends within its header",
        whole[:-1]: "fewer bytes than the 2 x 3 x 4",
        whole + b"x": "more bytes than the 2 x 3 x 4",
        endless: "fewer bytes than the 4294967295 x",
        gzip.compress(endless): "fewer bytes than the 4294967295 x",
        zipped[:-9]: "cannot be read: Compressed file ended",
        flipped: "cannot be read: CRC check failed",
        zipped[:2] + b"x" * 30: "cannot be read: Unknown compression",
        zipped[:10] + b"\xff" * 30: "cannot be read: .*invalid block",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said) as caught:
            read_idx(path, 3)
        assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match=r"cannot be read: .*No such file"):
        read_idx(tmp_path / "none", 3)


def test_labels_that_do_not_fit_their_images_are_refused(places):
    for labels, said in (
        (np.zeros(39, np.uint8), "train images: 40 of them, but 39 labels"),
        (np.full(40, 10, np.uint8), "image 0 has label 10, outside 0 to 9"),
    ):
        write_fashion(places / "debian", train_labels_idx1_ubyte=labels)
        with pytest.raises(ValueError, match=said):
            open_named("fashion-mnist")
    with pytest.raises(ValueError, match="no set of images is named 'cifar'"):
        open_named("cifar")


def write_cifar(folder):
    """Write CIFAR-10's files of 10 images each, as its authors' Python 2 did; return all pixels."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), np.uint8)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name, rows in zip(names, pixels.reshape(6, 10, 3072), strict=True):
        batch = {"data": rows, "labels": list(range(10)), "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["?"] * 10}, protocol=2))
    return pixels.transpose(0, 2, 3, 1)


def check_cifar(pixels):
    data = open_named("cifar10")
    for split, own in ((data.train, pixels[:50]), (data.validation, pixels[:50])):
        for row, number in enumerate(split.images.numbers):
            assert np.array_equal(split.images.read(row), own[number])
            assert split.labels[row] == number % 10
    assert (len(data.train.images), len(data.validation.images)) == (40, 10)
    assert np.array_equal(data.test.images.read(9), pixels[59])
    assert data.classes[3] == "cat"


def test_cifar10_is_downloaded_once_and_whole(places, mirror, monkeypatch):
    with pytest.raises(ValueError, match=r"downloaded: .*refused.*; unpack cifar-10-python\.tar"):
        open_named("cifar10")
    mirror()
    folder = places / "made/cifar-10-batches-py"
    pixels = write_cifar(folder)
    archive = places / "mirror/cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    downloader = torchvision.datasets.CIFAR10
    sums = [[path.name, md5(path)] for path in sorted(folder.iterdir())]
    monkeypatch.setattr(downloader, "tgz_md5", md5(archive))
    monkeypatch.setattr(downloader, "train_list", sums[1:-1])
    monkeypatch.setattr(downloader, "test_list", sums[-1:])
    monkeypatch.setattr(downloader, "meta", {**downloader.meta, "md5": sums[0][1]})
    check_cifar(pixels)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", None)
    check_cifar(pixels)


class Dangerous:
    def __reduce__(self):
        return print, ("run by a pickle",)


def test_damaged_cifar_files_are_refused_by_name_and_run_nothing(places, capsys):
    folder = places / "cache/depthwise/datasets/cifar-10-batches-py"
    pixels = write_cifar(folder)
    check_cifar(pixels)
    path = folder / "data_batch_3"
    whole = path.read_bytes()
    rows = np.zeros((2, 3072), np.uint8)
    for content, said in {
        whole[:-100]: "cannot be read",
        b"": "cannot be read",
        pickle.dumps(Dangerous()): r"cannot be read: it asks for builtins\.print",
        pickle.dumps([1]): "it has no `data`",
        pickle.dumps({"data": rows * 1.0}, protocol=2): "it has no `data`",
        pickle.dumps({"data": rows[:, 1:]}, protocol=2): "3071 bytes an image",
        pickle.dumps({"data": rows, "fine_labels": [1, 2]}, protocol=2): "no list of whole",
        pickle.dumps({"data": rows, "labels": [1]}, protocol=2): "train images: 42 of them, but 41",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            open_named("cifar10")
    assert "run by" not in capsys.readouterr().out
    path.unlink()
    with pytest.raises(ValueError, match=r"data_batch_3 cannot be read: .*No such file"):
        open_named("cifar10")
