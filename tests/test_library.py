"""A compiled network: called from Python and from threads, saved, opened again."""

import errno
import json
import mmap
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from toy import HALF, NATIVE, ONE, SHAPE, SIZE, TWO, WEIGHTS, draw, make_library, run

from depthwise.errors import RunError
from depthwise.files.cache import hash_bytes
from depthwise.runtime import artifact, library
from depthwise.runtime import target as targets
from depthwise.runtime.aligned import ALIGNMENT, LARGE_PAGE, MANY
from depthwise.runtime.artifact import OURS
from depthwise.runtime.library import Code, aligned_bytes, load
from depthwise.runtime.manifest import read_saved
from depthwise.runtime.target import find_target
from depthwise.toolchain.build import compile_c


def expected_one(x):
    y = x.astype(np.float64)
    for _ in range(40):
        y = WEIGHTS[0] * np.sin(y) + WEIGHTS[1]
    return y


@pytest.fixture(scope="module")
def one():
    return make_library()


@pytest.fixture
def saved(one, tmp_path):
    one.save(tmp_path / "out")
    return tmp_path / "out"


# -------------------------------------------------------------------------------- calling


def test_arrays_in_arrays_out(one):
    x = draw(SHAPE)
    kept = x.copy()
    y = one(x)
    assert type(y) is np.ndarray
    assert y.shape == SHAPE
    np.testing.assert_allclose(y, expected_one(x), rtol=0, atol=2e-4)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(one(x), y)


def test_tensors_in_tensors_out(one):
    x = torch.from_numpy(draw(SHAPE)).requires_grad_()
    y = one(x)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y.numpy(), one(x.detach().numpy()))


def test_what_is_not_contiguous_gives_the_same(one):
    x = draw(SHAPE)
    y = one(x)
    np.testing.assert_array_equal(one(np.asfortranarray(x)), y)
    channels_last = torch.from_numpy(x).to(memory_format=torch.channels_last)
    np.testing.assert_array_equal(one(channels_last).numpy(), y)
    np.testing.assert_array_equal(one(np.repeat(x, 2, axis=3)[..., ::2]), y)


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy])
def test_contiguous_memory_is_not_copied(one, monkeypatch, wrap):
    x, seen, results = draw(SHAPE), [], []
    unspied = Code.run

    def spy(code, weights, inputs, outputs, arena):
        seen.extend(inputs)
        results.extend(outputs)
        unspied(code, weights, inputs, outputs, arena)

    monkeypatch.setattr(Code, "run", spy)
    y = np.asarray(one(wrap(x)))
    assert np.shares_memory(seen[0], x)
    assert np.shares_memory(results[0], y)


def test_several_inputs_and_outputs():
    x0, x1 = draw(SHAPE), draw(HALF, 1)
    flat = x0.reshape(-1) + np.concatenate([x1, x1])
    y = make_library(TWO, ("0", "1"))(x0, x1)
    assert isinstance(y, tuple)
    np.testing.assert_array_equal(y[0], flat.reshape(SHAPE))
    np.testing.assert_array_equal(y[1], WEIGHTS[0] * x1)
    named = make_library(TWO, ("out", "aux"))(x0, torch.from_numpy(x1))
    assert list(named) == ["out", "aux"]
    assert torch.equal(named["aux"], torch.from_numpy(y[1]))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "toy takes 1 input: x0; found none for 'x0'"),
        ((draw(SHAPE), 2), "toy takes 1 input: x0; found 2 by position"),
        (
            (draw((2, 3, 10, 100)),),
            r"'x0' has shape \(2, 3, 10, 100\): the library takes \(2, 3, 1",
        ),
        ((draw(SHAPE).astype(np.float64),), "'x0' is float64: the library takes float32, convert"),
        ((torch.zeros(SHAPE, dtype=torch.bfloat16),), "'x0' is bfloat16: the library takes float"),
        ((draw(SHAPE).astype(">f4"),), "'x0' is >f4: the library takes float32"),
        ((torch.zeros(SHAPE, device="meta"),), "'x0' is on meta: a library takes tensors on the"),
        ((torch.zeros(SHAPE).to_sparse(),), "'x0' is sparse: a library takes dense tensors, x.to"),
        (([[1.0]],), "'x0' is a list: give a NumPy array or a tensor"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(one, inputs, message):
    with pytest.raises(ValueError, match=message):
        one(*inputs)


def test_a_view_with_its_sign_to_come_is_read(one):
    x = torch.from_numpy(draw(SHAPE))
    view = torch.complex(x, -x).conj().imag  # PyTorch notes the sign and leaves the memory
    assert view.is_neg()
    assert torch.equal(one(view), one(x))


@pytest.mark.parametrize("path", [None, 3, True, b"out", ["out"]])
def test_what_is_no_path_is_refused(one, path):
    for use, what in ((one.save, "the directory to save to"), (load, "the directory of a lib")):
        with pytest.raises(ValueError, match=f"^{what}.* is given as an? .*: give its path, a te"):
            use(path)


def test_eight_threads_agree(one):
    inputs = [draw(SHAPE, seed) for seed in range(8)]
    alone = [one(x) for x in inputs]
    start = Barrier(8)

    def work(x):
        start.wait()
        return [one(x) for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        for results, y in zip(pool.map(work, inputs), alone, strict=True):
            for result in results:
                np.testing.assert_array_equal(result, y)


def test_net_run_writes_to_its_own_memory_only(one):
    code, guard = one._code, 256
    arena, out = aligned_bytes(4 * SIZE + guard), np.full(SIZE + guard, 7.0, np.float32)
    arena[:] = 7
    x, weights = draw(SHAPE), library.align_copy(WEIGHTS)
    code.run(weights, [x], [out], arena)
    np.testing.assert_array_equal(out[:SIZE].reshape(SHAPE), one(x))
    assert (out[SIZE:] == 7.0).all()
    assert (arena[4 * SIZE :] == 7).all()


def test_weights_are_aligned_and_read_only(one, saved):
    for weights in (one._weights, load(saved)._weights):
        assert weights.tobytes() == WEIGHTS.tobytes()
        assert weights.ctypes.data % library.ALIGNMENT == 0
        assert not weights.flags.writeable
    odd = np.zeros(9, np.uint8)[1:]
    odd[:] = WEIGHTS.view(np.uint8)
    assert library.align_copy(odd).ctypes.data % library.ALIGNMENT == 0
    assert odd.flags.writeable


def test_much_memory_starts_at_a_large_page():
    little, much = aligned_bytes(MANY - 1), aligned_bytes(MANY + 5)
    assert (little.size, much.size) == (MANY - 1, MANY + 5)
    assert little.ctypes.data % ALIGNMENT == 0
    assert much.ctypes.data % (LARGE_PAGE if hasattr(mmap, "MADV_HUGEPAGE") else ALIGNMENT) == 0
    much[:] = 7  # all of it may be written
    assert much[-1] == 7


def test_a_failing_run_says_so():
    failing = make_library(ONE.replace("return 0;", "return 3;"))
    with pytest.raises(RunError, match="net_run failed with status 3"):
        failing(draw(SHAPE))


# ------------------------------------------------------------------------- saving, opening


def test_what_was_saved_opens_and_agrees(one, saved):
    suffix = NATIVE.suffix
    assert {p.name for p in saved.iterdir()} == OURS - {
        *(name for ending, name in artifact.SHARED.items() if ending != suffix),
        *artifact.WEB,
    }
    again, x = load(saved), draw(SHAPE)
    np.testing.assert_array_equal(again(x), one(x))
    assert again.manifest == one.manifest == read_saved(saved).manifest
    again.save(saved.parent / "copy")
    for path in saved.iterdir():
        assert path.read_bytes() == (saved.parent / "copy" / path.name).read_bytes()


def test_opening_and_running_do_not_import_torch(saved):
    program = (
        "import sys, numpy as np\n"
        "from depthwise.runtime.library import load\n"
        f"y = load({str(saved)!r})(np.zeros({SHAPE}, np.float32))\n"
        "print(y.shape, [m for m in sys.modules if m.split('.')[0] in ('torch', 'torchvision')])"
    )
    assert run([sys.executable, "-c", program]) == (0, f"{SHAPE} []\n", "")


def test_saving_again_replaces_a_library(one, saved):
    make_library(ONE.replace("40", "41")).save(saved)
    assert load(saved)._artefact.source != one._artefact.source
    one.save(saved)
    assert load(saved)._artefact.source == one._artefact.source
    assert [path.name for path in saved.parent.iterdir()] == ["out"]


def test_saving_makes_the_folders_above(one, tmp_path):
    one.save(tmp_path / "a" / "b")
    assert load(tmp_path / "a" / "b").manifest == one.manifest


def test_a_folder_of_somebody_else_is_left_alone(one, saved, tmp_path):
    (saved / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"out holds thesis.txt, which is no part of a saved"):
        one.save(saved)
    project = tmp_path / "project"
    project.mkdir()
    (project / "net.c").write_text("another tool's")
    with pytest.raises(ValueError, match=r"project holds net.c, which is no part of a saved"):
        one.save(project)
    with pytest.raises(ValueError, match=r"net\.c is a file: give the name of a directory"):
        one.save(project / "net.c")
    assert (saved / "thesis.txt").read_text() == "precious"
    assert (project / "net.c").read_text() == "another tool's"


@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_leaves_what_was_there(one, tmp_path, monkeypatch, before):
    out = tmp_path / "out"
    if before:
        one.save(out)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(artifact.Path, "write_bytes", fail)
    with pytest.raises(
        OSError, match="cannot save there, and nothing was: No space left"
    ) as caught:
        one.save(out)
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if before else [])
    if before:
        assert load(out).manifest == one.manifest


def test_a_directory_without_a_library_is_refused(tmp_path):
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"holds no saved library: there is no manifest\.json"):
            load(directory)


def damage(manifest, **changes):
    record = json.loads(manifest.read_text())
    record.update(changes)
    manifest.write_text(json.dumps(record))


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[3] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        (
            "net.weights",
            cut,
            "net.weights has 4 bytes where manifest.json says 8: the file was cut",
        ),
        ("net.weights", flip, "net.weights was altered: its SHA-256 is not the one in manifest"),
        ("net.weights", Path.unlink, "is no whole library: net.weights is missing from it"),
        ("libnet.so", Path.unlink, "is no whole library: libnet.so is missing from it"),
        (
            "libnet.so",
            cut,
            "was altered: its SHA-256 is not the one in manifest.json; copy or save",
        ),
        ("manifest.json", cut, "manifest.json: the file: Invalid JSON"),
        (
            "manifest.json",
            lambda p: damage(p, format=2),
            "manifest.json: format: Input should be 1",
        ),
        ("manifest.json", lambda p: damage(p, more=1), "manifest.json: more: Extra inputs"),
    ],
)
def test_a_damaged_library_is_refused(saved, name, harm, message):
    if name == "libnet.so":
        name = artifact.SHARED[NATIVE.suffix]
    harm(saved / name)
    with pytest.raises(ValueError, match=message):
        load(saved)


def replace_code(saved, shared):
    """Put other code into a saved library, as if it had been saved with it."""
    (saved / artifact.SHARED[NATIVE.suffix]).write_bytes(shared)
    record = json.loads((saved / "manifest.json").read_text())
    record["build"]["library_sha256"] = hash_bytes(shared)
    (saved / "manifest.json").write_text(json.dumps(record))


def test_what_is_no_code_is_refused(saved):
    replace_code(saved, b"not a library")
    with pytest.raises(ValueError, match="cannot be opened as a compiled network"):
        load(saved)
    other = compile_c("int other(void); int other(void) { return 1; }", NATIVE)
    replace_code(saved, other.read_bytes())
    with pytest.raises(ValueError, match=r"cannot be opened as a compiled network: .*net_run"):
        load(saved)


def test_the_code_of_another_network_is_refused(saved):
    replace_code(saved, make_library(TWO, ("0", "1"))._artefact.shared)
    with pytest.raises(ValueError, match=r"has arena 0 where its manifest says 24000: one of them"):
        load(saved)


def test_a_library_for_another_cpu_is_refused(one, saved, monkeypatch):
    other = "aarch64" if find_target("aarch64").foreign else "x86-64-v3"
    foreign = make_library(target=other)
    foreign.save(saved)
    for open_ in (lambda: load(saved), lambda: foreign(draw(SHAPE))):
        with pytest.raises(ValueError, match=f"this is a library for {other}, and this machine is"):
            open_()
    one.save(saved)
    if NATIVE.requires:
        monkeypatch.setattr(targets, "cpu_features", lambda: frozenset({"sse4_1"}))
        with pytest.raises(ValueError, match="and this CPU lacks"):
            load(saved)
