"""Training in eight bits: a run that is rounded while it learns, and what it leaves."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from terminal import run as command
from test_training import NETWORK, RECIPE, StopsAt, assert_same_weights, halves, split, weights
from torch import nn

import depthwise as dw
from depthwise.compiler import pipeline
from depthwise.quantization.integer_ops import IntegerLayer
from depthwise.quantization.simulation import simulate
from depthwise.training import Recipe, Run, resume, train
from depthwise.training.data.dataset import Dataset
from depthwise.training.judging import evaluate

ROUNDED = RECIPE.model_copy(update={"epochs": 2, "quantize": "int8", "learning_rate": 0.01})


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    """Return the directory of a run in float32."""
    directory = tmp_path_factory.mktemp("runs") / "floats"
    train(NETWORK, halves(), RECIPE, directory=directory)
    return directory


@pytest.fixture(scope="module")
def finished(floats):
    """Return a run that goes on from there in eight bits."""
    return train(f"run:{floats}", halves(), ROUNDED, directory=floats.parent / "rounded")


def prepared(run: Run, pixels: np.ndarray) -> np.ndarray:
    """Return pixels (N, H, W, 3) as the network of a run takes them."""
    how = run.record.preprocessing
    mean, std = (np.array(each).reshape(3, 1, 1) for each in (how.mean, how.std))
    return ((pixels.transpose(0, 3, 1, 2) / 255 - mean) / std).astype(np.float32)


def test_the_integers_are_as_right_as_the_result_says(finished):
    made = split(32, 1)
    graph = dw.open(f"run:{finished.directory}").graph
    scores = simulate(graph, prepared(finished, made.images.pixels))
    assert (scores.argmax(1) == made.labels).sum() == finished.result.validation.right
    assert finished.result.validation.accuracy > 0.9


def test_the_integers_say_what_the_judged_network_says(finished):
    x = prepared(finished, split(300, 9).images.pixels)
    with torch.no_grad():
        own = finished.network()(torch.from_numpy(x)).numpy()
    exact = simulate(dw.open(f"run:{finished.directory}").graph, x)
    assert np.mean(own.argmax(1) == exact.argmax(1)) >= 0.99
    apart = np.abs(own - exact) / np.abs(exact).max()
    assert np.median(apart) < 1e-5
    assert apart.max() < 0.02  # a tie that is told otherwise moves what comes after it


def test_its_directory_holds_a_quantised_network(finished):
    kept = dw.open(f"quantized:{finished.directory / 'int8'}")
    x = prepared(finished, split(1, 3).images.pixels)
    assert np.array_equal(kept.run([x])[0], dw.open(f"run:{finished.directory}").run([x])[0])
    assert kept.pretrained.class_names == ("upper", "lower")


def test_it_compiles_to_integers(finished):
    source = dw.open(f"run:{finished.directory}")
    layers = [n for n in pipeline.rewrite(source.graph) if isinstance(n.op, IntegerLayer)]
    assert len(layers) == 3
    library = dw.compile(source)
    assert library.manifest.verification.error == 0
    x = prepared(finished, split(1, 3).images.pixels)
    assert np.array_equal(library(x), simulate(source.graph, x))


def test_it_is_judged_in_integers(finished):
    judged = evaluate(f"run:{finished.directory}", halves())
    assert judged.result.right == finished.result.validation.right


def test_weights_ranges_and_statistics_learn(finished, floats):
    learned, before = weights(finished.directory, "best"), weights(floats, "best")
    assert set(before) - set(learned) == {
        name for name in before if "num_batches" in name and name not in learned
    }
    assert (learned["activation_ranges.highs"] != 0).any()
    assert not torch.equal(learned["0.weight"], before["0.weight"])
    assert not torch.equal(learned["1.running_mean"], before["1.running_mean"])


def test_statistics_stand_still_at_the_end(floats, tmp_path):
    still = ROUNDED.model_copy(update={"frozen_norms": 1.0, "average": 0, "epochs": 1})
    run = train(f"run:{floats}", halves(), still, directory=tmp_path / "still")
    before, after = weights(floats, "best"), weights(run.directory)
    assert torch.equal(after["1.running_mean"], before["1.running_mean"])
    assert not torch.equal(after["1.weight"], before["1.weight"])  # what they scale by goes on


def test_half_of_it_is_the_usual_share(finished):
    assert finished.recipe.frozen_norms == 0.5
    assert finished.recipe.precision == "fp32"


def test_it_goes_on_as_if_it_had_not_been_stopped(finished, floats, tmp_path):
    train(f"run:{floats}", halves(), ROUNDED, directory=tmp_path / "run", onlooker=StopsAt(9))
    assert Run.open(tmp_path / "run").result is None
    again = resume(tmp_path / "run", halves())
    assert_same_weights(finished.directory, tmp_path / "run")
    assert again.result.validation == finished.result.validation
    assert dw.open(f"quantized:{tmp_path / 'run/int8'}").shapes == ((1, 3, 16, 16),)


def test_the_run_of_a_module_needs_no_module(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 2),
    )  # fmt: skip
    recipe = ROUNDED.model_copy(update={"epochs": 1})
    run = train(net, halves(), recipe, directory=tmp_path / "run")
    assert not run.record.module
    assert dw.open(f"run:{tmp_path / 'run'}").run([np.zeros((1, 3, 16, 16), np.float32)])


def test_training_goes_on_from_integers(finished, tmp_path):
    for name in (f"run:{finished.directory}", f"quantized:{finished.directory / 'int8'}"):
        recipe = ROUNDED.model_copy(update={"epochs": 1})
        folder = tmp_path / name.partition(":")[0]
        run = train(name, halves(), recipe, directory=folder)
        assert run.result.validation.accuracy > 0.9
        assert dw.open(f"run:{folder}").shapes == ((1, 3, 16, 16),)


def test_a_calibrated_network_begins_with_its_ranges(tmp_path, floats):
    x = prepared(Run.open(floats), split(64, 0).images.pixels)
    made = dw.quantize(f"run:{floats}", data=x)
    made.save(tmp_path / "int8")
    told = []
    slow = ROUNDED.model_copy(update={"epochs": 1, "learning_rate": 1e-9, "frozen_norms": 1.0})
    run = train(f"quantized:{tmp_path / 'int8'}", halves(), slow, directory=tmp_path / "run",
                onlooker=Told(told))  # fmt: skip
    assert not any("nats" in each for each in told)  # nothing is drawn again
    first, second = (simulate(g, x) for g in (made.graph, dw.open(f"run:{run.directory}").graph))
    assert np.mean(first.argmax(1) == second.argmax(1)) >= 0.98


class Told(StopsAt):
    def __init__(self, told):
        super().__init__(-1)
        self.say = told.append


def test_how_ranges_were_drawn_is_said(floats, tmp_path):
    told = []
    recipe = ROUNDED.model_copy(update={"epochs": 1})
    train(f"run:{floats}", halves(), recipe, directory=tmp_path / "run", onlooker=Told(told))
    assert any(each.startswith("minmax: ") for each in told)


# ------------------------------------------------------------------------------------- refusals


def test_random_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the weights of mobilenet_v3_small are random"):
        train("mobilenet_v3_small", halves(), ROUNDED, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_quantised_network_is_trained_in_no_other_way(finished, tmp_path):
    with pytest.raises(ValueError, match="--quantize int8"):
        train(f"quantized:{finished.directory / 'int8'}", halves(), RECIPE,
              directory=tmp_path / "run")  # fmt: skip


def test_other_classes_and_sizes_are_refused(finished, tmp_path):
    name = f"quantized:{finished.directory / 'int8'}"
    images = split(48, 0)
    three = Dataset(
        "three", ("a", "b", "c"),
        type(images)(images.images, np.arange(48) % 3),
        type(images)(images.images, np.arange(48) % 3),
        None,
    )  # fmt: skip
    with pytest.raises(ValueError, match="these images have 3 classes"):
        train(name, three, ROUNDED, directory=tmp_path / "run")
    other = ROUNDED.model_copy(update={"resolution": 12})
    with pytest.raises(ValueError, match="is quantised for 16 pixels, not 12"):
        train(name, halves(), other, directory=tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"branches": 2}, "train with branches first"),
        ({"compile": True}, "leave out compile"),
        ({"quantize": "int4"}, "'int8'"),
        ({"frozen_norms": 1.5}, "less than or equal to 1"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Recipe.of({"quantize": "int8", **changes})


def test_the_command_line(floats, tmp_path, capsys):
    data = tmp_path / "photos"
    for place, (image, label) in enumerate(
        zip(split(60, 0).images.pixels, split(60, 0).labels, strict=True)
    ):
        folder = data / ("upper", "lower")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{place}.png")
    code, out, err = command(
        "train", data, "--network", f"run:{floats}", "--quantize", "int8", "--frozen-norms", "0.3",
        "--epochs", "1", "--out", tmp_path / "run", capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    assert "validation accuracy" in out
    recipe = Recipe.read(tmp_path / "run/recipe.toml")
    assert (recipe.quantize, recipe.frozen_norms) == ("int8", 0.3)
    assert json.loads((tmp_path / "run/run.json").read_text())["quantize"] == "int8"
