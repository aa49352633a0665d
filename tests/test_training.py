"""From images to a run: what it learns, what it keeps, and how it goes on where it was stopped."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from depthwise.training import Recipe, Run, begin, resume, train
from depthwise.training.data.arrays import ArrayImages
from depthwise.training.data.dataset import Dataset, ImageSplit
from depthwise.training.divergence import Diverged
from depthwise.training.history import read_history

NETWORK = f"{Path(__file__).with_name('tiny_network.py')}:make"
RECIPE = Recipe(epochs=3, batch=8, seed=1, mirror=False, precision="fp32", learning_rate=0.05)


def split(count, seed):
    """Return images of 16x16 pixels, bright in the upper half or in the lower one."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = random.integers(0, 80, (count, 16, 16, 3), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[8 * label : 8 * label + 8] += 150
    return ImageSplit(ArrayImages("made", pixels, np.arange(count)), labels)


def halves(count=64):
    return Dataset("halves", ("upper", "lower"), split(count, 0), split(32, 1), split(20, 2))


@dataclass
class StopsAt:
    """Asks to stop after some steps, or fails there, as a kill would."""

    step_number: int
    fails: bool = False
    asks_to_stop: bool = False

    def step(self, progress, _loss, _pace):
        if progress.step == self.step_number:
            if self.fails:
                raise InterruptedError
            self.asks_to_stop = True

    def epoch(self, _record):
        pass

    def say(self, _text):
        pass


def learn(directory, data=None, recipe=RECIPE, **options):
    return train(NETWORK, data or halves(), recipe, directory=directory, **options)


def weights(directory, name="last"):
    return load_file(directory / f"{name}.safetensors")


def history(directory):
    return [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]


def assert_same_weights(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a run of 24 steps."""
    directory = tmp_path_factory.mktemp("runs") / "finished"
    return learn(directory)


def test_it_learns(finished):
    assert finished.result.validation.accuracy > 0.9
    assert finished.result.test.images == 20
    assert finished.result.test.accuracy > 0.9


def test_what_a_run_keeps(finished):
    again = Run.open(finished.directory)
    assert again.record == finished.record
    assert again.recipe == finished.recipe
    assert again.record.classes == ("upper", "lower")
    assert again.record.preprocessing.crop == 16
    assert again.record.images == {"train": 64, "validation": 32}
    rows = history(again.directory)
    assert [row["step"] for row in rows] == [8, 16, 24]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    net = again.network()
    assert not net.training
    assert set(net.state_dict()) == set(weights(again.directory, "best"))


def test_the_kept_network_is_as_right_as_the_result_says(finished):
    how, net = finished.record.preprocessing, finished.network()
    made = split(32, 1)
    mean, std = (np.array(each).reshape(3, 1, 1) for each in (how.mean, how.std))
    pixels = (made.images.pixels.transpose(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        said = net(torch.tensor(pixels, dtype=torch.float32)).argmax(1).numpy()
    assert (said == made.labels).sum() == finished.result.validation.right


def test_the_same_seed_twice_and_another(finished, tmp_path):
    learn(tmp_path / "again")
    assert_same_weights(finished.directory, tmp_path / "again")
    learn(tmp_path / "other", recipe=RECIPE.model_copy(update={"seed": 2}))
    other = weights(tmp_path / "other")
    assert any(
        not torch.equal(other[name], each) for name, each in weights(finished.directory).items()
    )


@pytest.mark.parametrize("step", [3, 8, 21])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(finished, tmp_path, step):
    stopped = learn(tmp_path / "run", onlooker=StopsAt(step))
    assert stopped.result is None
    gone_on = resume(tmp_path / "run", halves())
    assert_same_weights(finished.directory, tmp_path / "run")
    kept = (finished.result.validation, finished.result.test, finished.result.epoch)
    assert (gone_on.result.validation, gone_on.result.test, gone_on.result.epoch) == kept
    fixed = {"seconds", "images_per_second", "waiting"}
    rows, wanted = (history(each) for each in (tmp_path / "run", finished.directory))
    assert [{**row, **dict.fromkeys(fixed)} for row in rows] == [
        {**row, **dict.fromkeys(fixed)} for row in wanted
    ]


def test_a_run_that_was_killed_before_anything_was_kept_begins_again(finished, tmp_path):
    with pytest.raises(InterruptedError):
        learn(tmp_path / "run", onlooker=StopsAt(20, fails=True))
    resume(tmp_path / "run", halves())
    assert_same_weights(finished.directory, tmp_path / "run")


def test_judging_leaves_a_network_without_an_average_learning(tmp_path):
    """Its BatchNorms follow every one of the 24 steps, also those after an epoch was judged."""
    run = learn(tmp_path / "run", recipe=RECIPE.model_copy(update={"average": 0.0}))
    assert weights(run.directory)["1.num_batches_tracked"] == 24


def test_a_finished_run_is_left_as_it_is(finished):
    before = {path.name: path.stat().st_mtime_ns for path in finished.directory.iterdir()}
    resume(finished.directory, halves())
    after = {path.name: path.stat().st_mtime_ns for path in finished.directory.iterdir()}
    assert {**before, "history.jsonl": 0} == {**after, "history.jsonl": 0}


def test_time_ends_a_training(tmp_path):
    run = learn(tmp_path / "run", recipe=RECIPE.model_copy(update={"epochs": 1e6, "time": 3.0}))
    assert 2 < run.result.seconds < 6
    rate = json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[-1])[
        "learning_rate"
    ]
    assert rate < 0.01 * RECIPE.learning_rate  # the schedule came to its end


def test_time_counts_from_the_first_image_that_is_decoded(tmp_path, monkeypatch):
    def slowly(dataset, side, prepare=begin.TrainingImages.of):
        time.sleep(0.7)
        return prepare(dataset, side)

    monkeypatch.setattr(begin.TrainingImages, "of", slowly)
    run = learn(tmp_path / "run", recipe=RECIPE.model_copy(update={"epochs": 1}))
    assert read_history(run.directory)[0].seconds > 0.7


def test_fewer_images_than_a_batch(tmp_path):
    run = learn(tmp_path / "run", halves(10), RECIPE.model_copy(update={"batch": 64, "epochs": 2}))
    assert run.recipe.batch == 10


def test_a_loss_that_is_no_number(tmp_path):
    wild = RECIPE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(Diverged, match=r"at step \d+ the loss became (nan|inf).*learning rate"):
        learn(tmp_path / "run", recipe=wild)


def test_a_directory_that_holds_a_run_is_not_written_over(finished):
    with pytest.raises(ValueError, match="holds a run already"):
        learn(finished.directory)


def test_images_that_are_not_those_of_the_run(tmp_path):
    learn(tmp_path / "run", onlooker=StopsAt(3))
    with pytest.raises(ValueError, match=r"began with 64 images of train.* has 60"):
        resume(tmp_path / "run", halves(60))
    other = halves()
    renamed = Dataset("halves", ("lower", "upper"), other.train, other.validation, other.test)
    with pytest.raises(ValueError, match="learned the classes upper, lower"):
        resume(tmp_path / "run", renamed)


def test_resuming_what_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"is no run: it has no run\.json"):
        resume(tmp_path)


def test_a_damaged_state_is_said(tmp_path):
    learn(tmp_path / "run", onlooker=StopsAt(3))
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged"):
        resume(tmp_path / "run", halves())


class TestRecipe:
    def test_there_and_back(self, tmp_path):
        recipe = Recipe(time="15min", epochs=7, mirror=False, optimizer="adamw")
        (tmp_path / "r.toml").write_text(recipe.toml())
        assert Recipe.read(tmp_path / "r.toml") == recipe
        assert recipe.time == 900
        assert Recipe.read(tmp_path / "r.toml", epochs=3).epochs == 3

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("lr = 0.1", "there is no 'lr' in a recipe"),
            ("epochs = -1", "epochs=-1"),
            ("time = 'soon'", "'soon' is no length of time: write 90s, 15min or 2h"),
            ("optimizer = 'adam'", "optimizer='adam'"),
            ("epochs = ", "recipe .*r.toml: "),
        ],
    )
    def test_what_is_refused(self, tmp_path, text, reason):
        (tmp_path / "r.toml").write_text(text)
        with pytest.raises(ValueError, match=reason):
            Recipe.read(tmp_path / "r.toml")

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(ValueError, match="No such file"):
            Recipe.read(tmp_path / "r.toml")

    def test_every_field_is_an_option(self):
        import inspect

        from depthwise.cli.train import train as verb

        assert set(Recipe.model_fields) <= set(inspect.signature(verb).parameters)
