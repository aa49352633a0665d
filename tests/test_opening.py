"""A library that is opened runs the very bytes that were checked, whatever happens on the disk."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from weakref import WeakValueDictionary

import numpy as np
import pytest
from toy import HALF, NATIVE, ONE, SHAPE, SIZE, TWO, draw, make_library

from depthwise.runtime import opening
from depthwise.runtime.artifact import SHARED
from depthwise.runtime.library import load

OTHER = ONE.replace("sinf(a[i])", "cosf(a[i])")  # other code, of the same sizes


@pytest.fixture(scope="module")
def one():
    return make_library()


@pytest.fixture(scope="module")
def other():
    return make_library(OTHER)


@pytest.fixture
def saved(one, tmp_path):
    one.save(tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(params=["memory", "folder"])
def _way(request, monkeypatch):
    """Open libraries in memory, and as systems do that have no memfd_create."""
    monkeypatch.setattr(opening, "_opened", WeakValueDictionary())
    if request.param == "folder":
        monkeypatch.delattr(os, "memfd_create", raising=False)


@pytest.mark.usefixtures("_way")
def test_another_network_saved_there_runs_its_own_code(one, other, tmp_path):
    x = draw(SHAPE)
    for library in (one, other) * 5:
        library.save(tmp_path / "out")
        opened = load(tmp_path / "out")
        np.testing.assert_array_equal(opened(x), library(x))
    assert not np.allclose(one(x), other(x))


@pytest.mark.usefixtures("_way")
def test_hundreds_of_libraries_leave_no_file_open(one):
    def with_remark(number):
        return one._artefact.shared + number.to_bytes(4, "little")  # after all that is loaded

    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    opened = [opening.open_content(with_remark(number)) for number in range(300)]
    assert len({library._handle for library in opened}) == 300
    if sys.platform != "linux":
        return
    assert len(os.listdir("/proc/self/fd")) == before

    def mapped():
        return Path("/proc/self/maps").read_text().count("\n")

    many = mapped()
    del opened
    assert mapped() < many - 600  # nobody refers to them: they were closed


def test_the_same_code_with_other_weights_is_opened_once(one):
    weights = np.array([0.5, 2.0], np.float32)
    changed = copy.copy(one._artefact)
    object.__setattr__(changed, "weights", weights.view(np.uint8))
    again, same, x = type(one)(changed), type(one)(one._artefact), draw(SHAPE)
    assert not np.allclose(again(x), same(x))
    assert again._code.opened is same._code.opened


def test_an_open_library_does_not_mind_what_happens_to_its_files(one, other, saved):
    opened, x = load(saved), draw(SHAPE)
    for path in saved.iterdir():
        path.write_bytes(b"cut")
    np.testing.assert_array_equal(opened(x), one(x))
    shutil.rmtree(saved)
    opened.save(saved)
    np.testing.assert_array_equal(load(saved)(x), one(x))
    other.save(saved)
    np.testing.assert_array_equal(opened(x), one(x))
    opened.save(saved.parent / "again")
    np.testing.assert_array_equal(load(saved.parent / "again")(x), one(x))


def test_processes_that_save_and_open_at_once_see_whole_libraries(one, other, saved):
    program = (
        "import sys, numpy as np\n"
        "from depthwise.runtime.library import load\n"
        "x = np.load(sys.argv[1])\n"
        "found = set()\n"
        "while not sys.stdin.isatty() and len(found) < 2:\n"
        f"    found.add(float(load({str(saved)!r})(x).sum()))\n"
        "print(*sorted(found))"
    )
    x = draw(SHAPE)
    np.save(saved.parent / "x.npy", x)
    command = [sys.executable, "-c", program, str(saved.parent / "x.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        while reader.poll() is None:
            for library in (other, one):
                library.save(saved)
        assert reader.returncode == 0
        assert reader.stdout
        found = [float(each) for each in reader.stdout.read().split()]
    assert found == sorted(float(library(x).sum()) for library in (one, other))


def test_threads_may_open_at_once(one, other, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_opened", WeakValueDictionary())
    one.save(tmp_path / "0")
    other.save(tmp_path / "1")
    start, x = Barrier(8), draw(SHAPE)

    def work(number):
        start.wait()
        return load(tmp_path / str(number % 2))(x)

    with ThreadPoolExecutor(8) as pool:
        for number, y in enumerate(pool.map(work, range(8))):
            np.testing.assert_array_equal(y, (one, other)[number % 2](x))


def test_a_fork_opens_and_runs(one, other, saved):
    x = draw(SHAPE)
    expected = one(x), other(x)
    other.save(saved.parent / "other")
    process = os.fork()
    if process == 0:
        same = [np.array_equal(load(saved.parent / name)(x), y)
                for name, y in zip(("out", "other"), expected, strict=True)]  # fmt: skip
        os._exit(0 if all(same) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_libraries_are_pickled_and_copied_as_their_parts(one, saved):
    x = draw(SHAPE)
    opened = load(saved)
    opened(x)
    shutil.rmtree(saved)
    for again in (pickle.loads(pickle.dumps(opened)), copy.deepcopy(opened), copy.copy(opened)):
        assert again.manifest == one.manifest
        np.testing.assert_array_equal(again(x), one(x))
    program = (
        "import pickle, sys; library, x = pickle.load(sys.stdin.buffer); print(library(x).sum())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=pickle.dumps((opened, x)), capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(float(one(x).sum()), rel=1e-6)


# --------------------------------------------------------------------- manifests that were edited


def edit(saved, change):
    """Change values of a manifest.json, by their path."""
    record = json.loads((saved / "manifest.json").read_text())
    for path, value in change.items():
        *parents, last = path.split(".")
        part = record
        for key in parents:
            part = part[int(key) if key.isdigit() else key]
        part[int(last) if last.isdigit() else last] = value
    (saved / "manifest.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    "change",
    [
        {"network.inputs.0.shape": [2, 3, 100, 11]},
        {"network.inputs.0.shape": [2, 3, 1]},
        {"network.inputs.0.shape": [0]},
        {"network.inputs.0.shape": [2**48, 2**48, 2**48]},
        {"network.inputs.0.dtype": "uint8"},
        {"network.inputs.0": {"name": "x", "shape": [SIZE, 4], "dtype": "uint8"}},
        {"network.outputs.0.shape": [SIZE // 2]},
        {"network.outputs.0.shape": [SIZE * 1000]},
        {"network.inputs": []},
        {"network.outputs": []},
        {"network.outputs": [{"name": "0", "shape": [SIZE]}, {"name": "1", "shape": [SIZE]}]},
        {"memory.arena_bytes": 0},
        {"memory.arena_bytes": 2**48},
        {"memory.weights_bytes": 2**48},
        {"build.threads": 64},
    ],
    ids=str,
)
def test_sizes_that_the_code_does_not_have_are_refused(saved, change):
    edit(saved, change)
    with pytest.raises(ValueError, match=r"manifest(\.json)? says"):
        load(saved)


def test_sizes_of_several_tensors_are_compared_one_by_one(tmp_path):
    make_library(TWO, ("0", "1")).save(tmp_path / "out")
    edit(tmp_path / "out", {"network.inputs.0.shape": HALF, "network.inputs.1.shape": SHAPE})
    with pytest.raises(ValueError, match=r"has inputs \[\(4, 24000\), \(4, 12000\)\] where its "):
        load(tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"network.inputs.0.shape": [-1, 6000]},
        {"network.inputs.0.shape": [1.5]},
        {"network.inputs.0.shape": [None]},
        {"network.inputs.0.shape": "12"},
        {"network.inputs.0.shape": [1] * 65},
        {"network.inputs.0.shape": [int("9" * 4000)]},
        {"network.inputs.0.dtype": "float64"},
        {"network.inputs": {}},
        {"memory.arena_bytes": -1},
        {"memory.arena_bytes": float("inf")},
        {"memory.arena_bytes": float("nan")},
        {"memory.weights_sha256": "../../etc/passwd"},
        {"build.threads": 0},
        {"build.target": "../../etc"},
        {"build.library_sha256": 7},
        {"report": "../../etc/passwd"},
        {"format": 2},
        {"seal": []},
        {"seal.files": {"net.c": "no hash"}},
    ],
    ids=lambda change: str(change)[:60],
)
def test_values_that_no_manifest_has_are_refused(saved, change):
    edit(saved, change)
    with pytest.raises(ValueError, match=r"manifest\.json|target"):
        load(saved)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"format": 1e999}',
     b" " * (65 * 2**20)],
    ids=lambda content: str(content[:12]),
)  # fmt: skip
def test_what_is_no_manifest_is_refused(saved, content):
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        load(saved)


@pytest.mark.parametrize("name", ["net.weights", "net.c", SHARED[NATIVE.suffix], "manifest.json"])
def test_links_are_followed_to_what_was_saved_and_nothing_else(one, saved, tmp_path, name):
    (saved / name).rename(tmp_path / "elsewhere")
    (saved / name).symlink_to(tmp_path / "elsewhere")
    assert load(saved).manifest == one.manifest
    for nothing in ("/dev/zero", "/nowhere", tmp_path):
        (saved / name).unlink()
        (saved / name).symlink_to(nothing)
        with pytest.raises(ValueError, match=r"is missing from it|there is no manifest\.json"):
            load(saved)


def test_net_c_is_checked_as_well(saved):
    (saved / "net.c").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"net\.c was altered: its SHA-256 is not the one"):
        load(saved)
