"""What training refuses, in words that help: recipes, networks, damaged runs; and loses nothing."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from test_training import NETWORK, RECIPE, StopsAt, assert_same_weights, halves, learn, weights
from test_training_recipe_fields import Listener
from unfit_networks import Sound

from depthwise.cli.command import run as call
from depthwise.cli.files import writing
from depthwise.files.atomic import only_one
from depthwise.training import Recipe, resume, train
from depthwise.training.data.arrays import ArrayImages
from depthwise.training.data.dataset import ImageSplit
from depthwise.training.data.opening import open_dataset
from depthwise.training.data.squares import or_why_not
from depthwise.training.divergence import Diverged
from depthwise.training.judging import evaluate
from depthwise.training.resolution import side_at

UNFIT = Path(__file__).with_name("unfit_networks.py")
FLOATS = [name for name, field in Recipe.model_fields.items() if "float" in str(field.annotation)]


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def save_images(folder):
    """Write 12 images of each of two classes."""
    images = halves().train.images.pixels
    for place, pixels in enumerate(images[:24]):
        label = folder / "ab"[place % 2]
        label.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(label / f"{place}.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the directory of a run that is over."""
    return learn(tmp_path_factory.mktemp("runs") / "finished").directory


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Return the directory of a run that was stopped in its second epoch."""
    return learn(tmp_path_factory.mktemp("runs") / "begun", onlooker=StopsAt(10)).directory


@pytest.fixture
def stopped(begun, tmp_path):
    """Return a copy of that, to be damaged."""
    return Path(shutil.copytree(begun, tmp_path / "stopped"))


class TestRecipe:
    def test_floats_are_all_there(self):
        assert {"epochs", "time", "learning_rate", "mixup", "layer_decay", "frozen_norms"} < {
            *FLOATS
        }
        assert len(FLOATS) == 18

    @pytest.mark.parametrize("name", FLOATS)
    def test_no_float_is_infinite_or_no_number_or_a_truth(self, name):
        for value in (float("inf"), float("nan"), True):
            with pytest.raises(ValueError, match=f"^{name}=.*(finite|valid) number"):
                Recipe.of({name: value, "teacher": "any"})

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"epochs": 1e308}, "less than or equal to 1000000"),
            ({"time": "9e"}, "no length of time"), ({"time": "9" * 30 + "h"}, "equal to 10000000"),
            ({"resolution": 10**20}, "equal to 8192"), ({"branches": 1000}, "equal to 32"),
            ({"progressive": 0.0}, "greater than 0"), ({"warmup": 1.0}, "less than 1"),
            ({"momentum": 1.0}, "less than 1"), ({"temperature": 1e-300}, "equal to 0.01"),
            ({"mixup": 1e-300}, "0 for none, or an alpha from 0.001 to 100"),
            ({"cutmix": 1e9}, "0 for none, or an alpha from 0.001 to 100"),
            ({"batch": True}, "valid integer"), ({"epochs": "3"}, "valid number"),
            ({"mirror": 1}, "valid boolean"), ({"seed": 1.0}, "valid integer"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, values, reason):
        name = next(iter(values))
        with pytest.raises(ValueError, match=f"{name}=.*{reason}"):
            Recipe.of(values)


class TestResolution:
    def test_it_grows_in_steps_to_the_last(self):
        grown = [side_at(done / 8, 224, 0.5) for done in range(9)]
        assert grown == [128, 128, 160, 160, 192, 192, 224, 224, 224]
        assert [side_at(done / 4, 28, 0.5) for done in range(5)] == [16, 20, 24, 28, 28]

    @pytest.mark.parametrize("last", [24, 28, 32, 64, 65, 224])
    def test_it_never_begins_with_fewer_pixels_than_teach_anything(self, last):
        assert side_at(0.0, last, 1e-300) == (8 if last <= 64 else 32)

    def test_small_images(self, tmp_path):
        begun = RECIPE.model_copy(update={"epochs": 1, "progressive": 0.01})
        plain = NETWORK.replace(":make", ":make_plain")
        run = train(plain, halves(), begun, directory=tmp_path / "run")
        assert run.result is not None

    def test_of_too_few_pixels_nothing_is_learned(self, tmp_path):
        with pytest.raises(ValueError, match=r"resolution 7: .* at least 8 .*--resolution 8"):
            train(
                f"{UNFIT}:Sound", halves(), RECIPE.model_copy(update={"resolution": 7}),
                directory=tmp_path / "run",
            )  # fmt: skip
        assert not (tmp_path / "run").exists()


class TestNetworks:
    @pytest.mark.parametrize(
        ("name", "changes", "reason"),
        [
            ("ReturnsDict", {}, r"training mode, returns a dict, and no tensor: .*\(2, 2\)"),
            ("ReturnsTwoWhileTraining", {}, "training mode, returns a tuple, and no tensor"),
            ("ReturnsVector", {}, r"returns \(2,\) of torch.float32: .* return \(2, 2\)"),
            ("ReturnsTwice", {}, r"returns \(2, 4\)"),
            ("ReturnsWholeNumbers", {}, r"returns \(2, 2\) of torch.int64"),
            ("HeadOfTwoNames", {}, r"returns \(2, 1000\)"),
            ("TakesOneImage", {}, r"does not run: RuntimeError.*unfit_networks.py:\d+"),
            ("Detaches", {}, "through which nothing learns"),
            ("NoNumbersWhenJudged", {}, r"evaluation mode, returns scores that are infinite or no"),
            ("NormalizesOneValue", {"batch": 1}, r"\(1, 3, 16, 16\).*give a larger --batch"),
            ("OfOneSize", {"progressive": 0.5}, r"\(2, 3, 8, 8\) .*does not run"),
        ],
    )  # fmt: skip
    def test_what_is_refused_before_anything_is_written(self, tmp_path, name, changes, reason):
        recipe = RECIPE.model_copy(update=changes)
        with pytest.raises(ValueError, match=f"^{UNFIT}:{name}, given .*{reason}"):
            train(f"{UNFIT}:{name}", halves(), recipe, directory=tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestScores:
    def test_a_teacher_that_gives_none(self, tmp_path):
        save_file(Sound().state_dict(), tmp_path / "sound.safetensors")
        for name, found in (("ReturnsDict", "a dict"), ("ReturnsVector", r"\(1,\)")):
            teacher = f"{UNFIT}:{name}@{tmp_path / 'sound.safetensors'}"
            taught = RECIPE.model_copy(update={"teacher": teacher})
            with pytest.raises(ValueError, match=f"teacher {UNFIT}:{name} returns {found} for"):
                learn(tmp_path / "taught", recipe=taught)

    def test_a_network_that_is_judged_by_no_numbers(self, tmp_path):
        with pytest.raises(
            Diverged, match=r"of 32 images .* 32 got scores.*first of them made, image 0"
        ):
            train(f"{UNFIT}:NoNumbersLater", halves(), RECIPE, directory=tmp_path / "run")

    def test_they_are_of_no_class(self, tmp_path, finished):
        damage = weights(finished, "best")
        damage["8.bias"].fill_(float("nan"))
        shutil.copytree(finished, tmp_path / "run")
        save_file(damage, tmp_path / "run" / "best.safetensors")
        with pytest.raises(ValueError, match=r"gives 32 of 32 images scores that are infinite"):
            evaluate(tmp_path / "run", halves())
        taught = RECIPE.model_copy(update={"teacher": str(tmp_path / "run")})
        with pytest.raises(ValueError, match="the teacher gives 32 of 32 images scores"):
            train(NETWORK, halves(), taught, directory=tmp_path / "taught")
        assert not (tmp_path / "taught").exists()


class TestRuns:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("best.safetensors", "No such file"), ("history.jsonl", "No such file"),
            ("recipe.toml", "No such file"), ("state.safetensors", "it is not there"),
        ],
    )  # fmt: skip
    def test_a_file_is_missing(self, stopped, name, reason):
        (stopped / name).unlink()
        self.assert_refused(stopped, rf"{name} is damaged: {reason}.*--weights .*last\.safetensors")

    @pytest.mark.parametrize(
        "name",
        ["best.safetensors", "history.jsonl", "recipe.toml", "state.safetensors", "run.json"],
    )
    def test_a_file_is_cut_short(self, stopped, name):
        whole = (stopped / name).read_bytes()
        for content in (b"", whole[: 2 * len(whole) // 3], b"\xff" * len(whole)):
            (stopped / name).write_bytes(content)
            self.assert_refused(stopped, rf"{name} is damaged: [^\n]*; put a whole copy[^\n]*$")

    def test_a_finished_run_whose_result_is_damaged(self, finished, tmp_path):
        shutil.copytree(finished, tmp_path / "run")
        (tmp_path / "run" / "result.json").write_text("{")
        with pytest.raises(ValueError, match=r"result.json is damaged: the file: Invalid JSON"):
            resume(tmp_path / "run", halves())

    def test_the_recipe_is_another_now(self, stopped):
        path = stopped / "recipe.toml"
        path.write_text(path.read_text().replace("epochs = 3.0", "epochs = 4.0"))
        self.assert_refused(stopped, r"recipe\.toml is damaged: it is not what the run began with")

    def test_the_network_is_another_now(self, stopped):
        path = stopped / "run.json"
        path.write_text(path.read_text().replace(":make", ":make_plain"))
        self.assert_refused(stopped, r"the state that was saved is of another network: see 0\.bias")

    def test_two_trainings_in_one_directory(self, stopped, tmp_path):
        (tmp_path / "new").mkdir()
        with only_one(stopped), only_one(tmp_path / "new"):
            self.assert_refused(stopped, "another process is training here")
            with pytest.raises(ValueError, match="another process is training here"):
                learn(tmp_path / "new")
        assert not [*(tmp_path / "new").iterdir()]
        assert resume(stopped, halves()).result

    def test_a_run_that_another_process_began_meanwhile(self, tmp_path, finished):
        """Its directory was free when this one looked first."""

        class Begins(Listener):
            def say(self, _text):
                shutil.copytree(finished, tmp_path / "run")

        taught = RECIPE.model_copy(update={"teacher": str(finished)})  # of which something is said
        with pytest.raises(ValueError, match="holds a run already"):
            learn(tmp_path / "run", recipe=taught, onlooker=Begins())
        assert_same_weights(finished, tmp_path / "run")

    def assert_refused(self, directory, reason):
        """Going on is refused, and every file is as it was."""
        before = contents(directory)
        with pytest.raises(ValueError, match=reason):
            resume(directory, halves())
        assert contents(directory) == before


class TestFolders:
    def test_a_directory_of_other_things_is_left_alone(self, tmp_path):
        (tmp_path / "recipe.toml").write_text("epochs = 3")
        with pytest.raises(ValueError, match=r"holds other things than a run.*: recipe\.toml;"):
            learn(tmp_path)
        assert (tmp_path / "recipe.toml").read_text() == "epochs = 3"

    def test_what_a_killed_training_left_is_no_hindrance(self, tmp_path, finished):
        for name in ("state.safetensors", "last.safetensors", "recipe.toml"):
            shutil.copy(finished / name, tmp_path)
        for name in (".writing-0123456789ab", "tensorboard"):
            (tmp_path / name).mkdir()
        learn(tmp_path)
        assert_same_weights(tmp_path, finished)

    def test_links_in_a_circle_and_names_that_are_no_text(self, tmp_path):
        save_images(tmp_path)
        (tmp_path / "a" / "loop.png").symlink_to("loop.png")
        (tmp_path / "a" / os.fsdecode(b"\xff.png")).write_bytes(b"")
        found = open_dataset(tmp_path)
        whys = [
            or_why_not(split.images, index, lambda _content, _name: np.zeros(1))
            for split in (found.train, found.validation)
            for index in range(len(split.images))
        ]
        said = [why.replace(f"{tmp_path}/a/", "") for why in whys if isinstance(why, str)]
        assert sorted(said) == [
            "no image file at loop.png", "\udcff.png is empty",
        ]  # fmt: skip
        (tmp_path / "b").rename(tmp_path / os.fsdecode(b"b\xff"))
        with pytest.raises(ValueError, match=r"the class b<U\+DCFF> is not in UTF-8: rename it"):
            open_dataset(tmp_path)

    def test_a_set_whose_name_is_no_text(self, tmp_path):
        named = replace(halves(), name="im\udcff")
        with pytest.raises(ValueError, match=r"im<U\+DCFF> is not in UTF-8"):
            learn(tmp_path / "run", named)


class TestArguments:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"recipe": {"epochs": 3}}, r"recipe is a dict: .*Recipe\(epochs=3\)"),
            ({"network": 3}, "network is an int: a name or a module is accepted"),
            ({"settings": ["width=1"]}, "settings is a list: a dict of options is accepted"),
        ],
    )
    def test_what_is_refused(self, tmp_path, changes, reason):
        arguments = {"network": NETWORK, "data": halves(), "recipe": RECIPE} | changes
        with pytest.raises(ValueError, match=reason):
            train(**arguments, directory=tmp_path / "run")

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            (np.arange(64) % 3, "train images of halves have labels of int64, from 0 to 2: .*to 1"),
            (np.arange(64) % 2 - 1, "from -1 to 0"), (np.arange(64) % 2 / 1, "of float64"),
            (np.arange(32) % 2, r"64 with labels of the shape \(32,\)"),
        ],
    )  # fmt: skip
    def test_labels_of_no_class(self, labels, reason):
        images = halves()
        with pytest.raises(ValueError, match=reason):
            replace(images, train=ImageSplit(images.train.images, labels))

    def test_pixels_that_are_no_images(self):
        for pixels in (np.zeros((2, 8, 8, 3)), np.zeros((2, 3, 8, 8), np.uint8)):
            with pytest.raises(ValueError, match=r"made is an array of .* accepted as uint8"):
                ArrayImages("made", pixels, np.arange(2))

    @pytest.mark.parametrize("classes", [(), ("a",), ("a", "a"), (1, 2)])
    def test_classes_that_are_no_names_to_tell_apart(self, classes):
        with pytest.raises(ValueError, match=r"halves has the classes .*two different names"):
            replace(halves(), classes=classes)


class TestCommand:
    def test_an_error_of_another_file_names_it(self, tmp_path):
        run = tmp_path / "x" / "run"
        for name, said in (
            ("x/run/a", f"--out {run}"), ("x", f"--out {run}"), ("images", f"{tmp_path}/images"),
        ):  # fmt: skip
            with (
                pytest.raises(ValueError, match=f"^{said}: Permission denied$"),
                writing("--out", run),
            ):
                raise PermissionError(13, "Permission denied", str(tmp_path / name))

    def test_no_data_is_not_the_bundled_data(self, tmp_path, capsys):
        assert call(["train", "", "--epochs", "0.001", "--out", str(tmp_path / "run")]) == 2
        assert "nothing at this path" in capsys.readouterr().err

    def test_a_run_may_be_called_as_a_network_is(self, finished, tmp_path, capsys):
        Image.new("RGB", (16, 16)).save(tmp_path / "x.png")
        assert call(["predict", str(tmp_path / "x.png"), "--run", f"run:{finished}"]) == 0
        assert call(["train", "--resume", f"run:{tmp_path}"]) == 2
        assert f"depthwise: {tmp_path} is no run" in capsys.readouterr().err

    def test_a_run_that_is_not_called_as_a_network_is(self, finished, capsys, monkeypatch):
        assert call(["cost", str(finished)]) == 2
        assert "a run is run:directory" in capsys.readouterr().err
        monkeypatch.chdir(finished.parent)
        assert call(["cost", "finished"]) == 2
        assert "elsewhere: run:finished, timm:finished" in capsys.readouterr().err

    def test_images_that_have_been_moved(self, tmp_path, capsys):
        before, now, run = (str(tmp_path / name) for name in ("before", "now", "run"))
        save_images(tmp_path / "before")
        train(NETWORK, before, RECIPE, directory=run, onlooker=StopsAt(5))
        (tmp_path / "before").rename(now)
        for call_of in (["train", "--resume", run], ["evaluate", run]):
            assert call(call_of) == 2
            assert f"{run} learned from these images: where they" in capsys.readouterr().err
        assert call(["train", now, "--resume", run]) == 0
        assert call(["evaluate", run, now]) == 0
