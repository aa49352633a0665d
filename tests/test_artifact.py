"""Saved libraries: nobody's files lost, nothing left over, wherever a process is killed."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy import ONE, SHAPE, draw, make_library

from depthwise.runtime import artifact
from depthwise.runtime.artifact import add_report, check_replaceable
from depthwise.runtime.library import load
from depthwise.runtime.manifest import read_saved


@pytest.fixture(scope="module")
def one():
    return make_library()


@pytest.fixture(scope="module")
def other():
    """Another network, of the same sizes and weights."""
    return make_library(ONE.replace("sinf(a[i])", "cosf(a[i])"))


@pytest.fixture
def saved(one, tmp_path):
    one.save(tmp_path / "out")
    return tmp_path / "out"


def contents(directory):
    """Return every file and link below a directory, with what it holds."""
    return {
        str(path.relative_to(directory)): path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


# ------------------------------------------------------------------------- whose a directory is


def test_names_like_ours_make_no_directory_ours(one, tmp_path):
    web = tmp_path / "web"
    (web / "net.c").mkdir(parents=True)
    (web / "net.c" / "notes").write_text("precious")
    (web / "manifest.json").write_text('{"name": "my web app"}')
    (web / "example.c").write_text("mine")
    before = contents(web)
    with pytest.raises(ValueError, match=r"web holds example\.c, which is no part of a saved"):
        one.save(web)
    assert contents(web) == before


@pytest.mark.parametrize(
    "name", sorted(artifact.OURS - {"libnet.dylib", "net.dll", "net.wasm", *artifact.WEB})
)
@pytest.mark.parametrize("harm", ["edited", "folder", "link"])
def test_a_file_of_ours_that_was_changed_is_kept(one, saved, tmp_path, name, harm):
    path = saved / name
    if harm == "edited":
        mode = "ab" if name != "manifest.json" else "wb"
        content = path.read_bytes().replace(b'"toy"', b'"mine"') if mode == "wb" else b"\n"
        with path.open(mode) as file:
            file.write(content)
    elif harm == "folder":
        path.unlink()
        path.mkdir()
        (path / "notes").write_text("mine")
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    before = contents(saved)
    named = "example.c" if (harm, name) == ("folder", "manifest.json") else name
    with pytest.raises(ValueError, match=re.escape(named)):
        one.save(saved)
    assert contents(saved) == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "elsewhere") == ["out"]


def test_a_manifest_that_is_copied_makes_nothing_else_ours(one, saved, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    shutil.copyfile(saved / "manifest.json", project / "manifest.json")
    (project / "example.c").write_text("mine")
    with pytest.raises(ValueError, match=r"example\.c was changed since it was saved: move it"):
        one.save(project)
    assert (project / "example.c").read_text() == "mine"


def test_what_is_missing_or_laid_out_anew_is_no_work_of_anybody(one, saved):
    (saved / "example.cpp").unlink()
    text = (saved / "manifest.json").read_text()
    (saved / "manifest.json").write_text(" ".join(text.split()))
    (saved / "net.weights").write_bytes(b"cut")
    one.save(saved)
    assert load(saved).manifest == one.manifest
    assert (saved / "example.cpp").is_file()


def test_a_library_of_an_earlier_version_opens_and_is_not_replaced(one, saved):
    (saved / "manifest.json").write_text(one.manifest.model_dump_json(indent=2))
    x = draw(SHAPE)
    np.testing.assert_array_equal(load(saved)(x), one(x))
    before = contents(saved)
    with pytest.raises(ValueError, match="out was saved by an earlier version, which left no rec"):
        one.save(saved)
    assert contents(saved) == before


def test_a_link_to_a_directory_stays_a_link(one, other, saved, tmp_path):
    link, nowhere = tmp_path / "link", tmp_path / "nowhere"
    link.symlink_to(saved)
    other.save(link)
    assert link.is_symlink()
    assert load(saved)._artefact.source == other._artefact.source
    nowhere.symlink_to(tmp_path / "new")
    one.save(nowhere)
    assert load(tmp_path / "new").manifest == one.manifest
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(ValueError, match="circle is no place to save to"):
        one.save(circle)


def test_the_current_directory_is_not_replaced(one, saved, monkeypatch):
    monkeypatch.chdir(saved)
    before = contents(saved)
    with pytest.raises(ValueError, match="out is the current directory, which cannot be replaced"):
        one.save(".")
    assert contents(saved) == before


def test_relative_paths_are_of_the_moment(one, other, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    one.save("out")
    opened = load("out")
    monkeypatch.chdir(tmp_path / "b")
    other.save("out")
    opened.save("again")
    assert load("again")._artefact.source == one._artefact.source
    assert load("out")._artefact.source == other._artefact.source


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="nothing can be written there"):
        check_replaceable(tmp_path / "out")
    tmp_path.chmod(0o700)


def test_permissions_of_the_directory_stay(one, saved):
    saved.chmod(0o750)
    one.save(saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o750


def test_what_comes_while_a_library_is_written_stays(one, saved, monkeypatch):
    real = artifact.flush

    def meanwhile(path):
        (saved / "thesis.txt").write_text("precious")
        real(path)

    monkeypatch.setattr(artifact, "flush", meanwhile)
    for exchange in (artifact.exchange, lambda *_: False):
        monkeypatch.setattr(artifact, "exchange", exchange)
        with pytest.raises(ValueError, match=r"thesis\.txt, which is no part of a saved library"):
            one.save(saved)
        assert (saved / "thesis.txt").read_text() == "precious"
        (saved / "thesis.txt").unlink()
        assert load(saved).manifest == one.manifest
        assert [path.name for path in saved.parent.iterdir()] == ["out"]


# ------------------------------------------------------------------------------------- the report


def test_a_report_joins_the_library_and_what_else_lies_there_stays(one, saved):
    (saved / artifact.STATE).mkdir()
    (saved / artifact.STATE / "counted.json").write_text("state")
    (saved / "notes").mkdir()
    (saved / "notes" / "mine.txt").write_text("mine")
    for page in ("first", "second"):
        add_report(saved, page, "{}")
        assert (saved / "report.html").read_text() == page
    assert read_saved(saved).manifest.report == "report.json"
    assert load(saved)(draw(SHAPE)).shape == SHAPE
    assert (saved / "notes" / "mine.txt").read_text() == "mine"
    shutil.rmtree(saved / "notes")
    one.save(saved)
    assert not (saved / "report.html").exists()
    assert (saved / artifact.STATE / "counted.json").read_text() == "state"


@pytest.mark.parametrize("name", ["report.html", "report.json"])
@pytest.mark.parametrize("before", [True, False])
def test_a_report_of_somebody_else_stays(saved, one, name, before):
    if before:
        add_report(saved, "page", "{}")
    (saved / name).write_text("mine")
    with pytest.raises(ValueError, match=name):
        add_report(saved, "page", "{}")
    with pytest.raises(ValueError, match=name):
        one.save(saved)
    assert (saved / name).read_text() == "mine"


# -------------------------------------------------------------------------------- killed processes

EVENTS = {
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "fcntl.flock",
    "ctypes.dlsym",
}


def touches_the_disk(event, arguments):
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    return event in EVENTS or (event == "open" and bool(arguments[2] & writes))


def killed_after(events, work):
    """Do work in a child that ends at its n-th touch of the disk; tell whether it came so far."""
    process = os.fork()
    if process == 0:
        left = events

        def count(event, arguments):
            nonlocal left
            left -= touches_the_disk(event, arguments)
            if left == 0:
                os._exit(9)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


@pytest.mark.parametrize("at_once", [True, False], ids=["exchange", "rename"])
@pytest.mark.parametrize("work", ["save", "report"])
def test_a_save_that_is_killed_loses_nothing_and_leaves_nothing(
    one, other, saved, monkeypatch, at_once, work
):
    if not at_once:
        monkeypatch.setattr(artifact, "exchange", lambda *_: False)
    (saved / artifact.STATE).mkdir()
    (saved / artifact.STATE / "counted.json").write_text("state")
    sources = {one._artefact.source, other._artefact.source}
    do = {"save": lambda: other.save(saved), "report": lambda: add_report(saved, "page", "{}")}
    kills, recovered = 0, 0
    while killed_after(kills + 1, do[work]):
        kills += 1
        recovered += not saved.exists()
        assert load(saved)._artefact.source in sources  # opening puts it back
        assert [path.name for path in saved.parent.iterdir()] == ["out"]
        assert (saved / artifact.STATE / "counted.json").read_text() == "state"
        one.save(saved)
    assert kills > 20
    assert recovered > 0 or at_once
    assert [path.name for path in saved.parent.iterdir()] == ["out"]


def test_folders_named_like_leftovers_and_saves_that_go_on_stay(one, saved):
    theirs = saved.with_name(".out.depthwise-0123456789ab")
    theirs.mkdir()
    (theirs / "notes").write_text("mine")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from depthwise.files.atomic import workspace\n"
        f"with workspace(Path({str(saved.parent)!r}), '.out.depthwise-') as folder:\n"
        "    print(folder, flush=True)\n"
        "    input()\n"
        "    print(folder.is_dir())\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as busy:
        assert busy.stdout
        working = Path(busy.stdout.readline().strip())
        one.save(saved)
        load(saved)
        assert working.is_dir()
        assert busy.communicate("\n")[0] == "True\n"
    assert sorted(path.name for path in saved.parent.iterdir()) == [theirs.name, "out"]
    assert (theirs / "notes").read_text() == "mine"
