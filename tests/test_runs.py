"""What is done with a run: opened, judged, drawn, compiled and shipped."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from terminal import run as command
from torch import nn

import depthwise as dw
from depthwise.compiler.assemble import describe_source
from depthwise.compiler.options import CompileOptions
from depthwise.shipping import CurrentNetwork, Request
from depthwise.shipping.pipeline import start_report
from depthwise.shipping.stages.building import build_library
from depthwise.shipping.stages.judging import data_key, judge_accuracy
from depthwise.training import Recipe, Run, judging, pictures, resume, train
from depthwise.training.adapt import fit_appearance
from depthwise.training.augment import Appearance
from depthwise.training.classifier import ImageClassifier
from depthwise.training.data.decode import decode_framed
from depthwise.training.data.opening import open_dataset
from depthwise.training.data.squares import prepare
from depthwise.training.evaluation import Evaluation
from depthwise.training.judging import Agreement, judge_classifiers
from depthwise.training.result import ClassResult, RunResult, SplitResult, read_result, write_result
from depthwise.weights import imagenet_preprocessing

NETWORK = f"{Path(__file__).with_name('tiny_network.py')}:make"
RECIPE = Recipe(epochs=2, batch=8, seed=1, mirror=False, precision="fp32", learning_rate=0.05)
SIZES = [(16, 16), (21, 16), (16, 23), (33, 40), (61, 35)]  # pixels, width and height


def write_images(folder, counts):
    """Write noisy images of several sizes, bright at a place that tells the class."""
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for place, name in enumerate(("left", "middle", "right")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                width, height = SIZES[index % len(SIZES)]
                pixels = random.integers(0, 120, (height, width, 3), np.uint8)
                third = width // 3
                pixels[:, place * third : (place + 1) * third] += 100
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def write_table(path, data, names, renamed=None):
    """Write a table of the images of some classes, in the order of their names."""
    rows = ["path,label,split"]
    for split in ("train", "validation", "test"):
        for name in names:
            label = (renamed or {}).get(name, name)
            images = sorted((data / split / name).iterdir())
            rows += [f"{image},{label},{split}" for image in images]
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data"), {"train": 16, "validation": 7, "test": 5})


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Return a run whose classes are not in a position that says their names."""
    recipe = RECIPE.model_copy(update={"resolution": 16})
    return train(NETWORK, data, recipe, directory=tmp_path_factory.mktemp("runs") / "run")


class TestOpening:
    def test_a_run_is_a_network(self, run):
        source = dw.open(f"run:{run.directory}")
        assert source.shapes == ((1, 3, 16, 16),)
        assert source.output_shapes == [(1, 3)]
        assert source.pretrained.class_names == ("left", "middle", "right")
        assert source.pretrained.preprocessing == run.record.preprocessing
        best = load_file(run.directory / "best.safetensors")
        own = source.module.state_dict()
        assert best.keys() == own.keys()
        assert all(torch.equal(best[name], own[name]) for name in best)

    def test_what_a_library_of_it_says(self, run):
        about = describe_source(dw.open(f"run:{run.directory}"))
        assert about.labels == ("left", "middle", "right")
        assert about.preprocessing == run.record.preprocessing.model_dump(mode="json")

    @pytest.mark.parametrize("side", [None, 65, 70, 101])
    def test_photographs_are_prepared_as_they_were_judged(self, run, data, side):
        """To the pixel: else what a run is said to be right in, predictions would not be."""
        how = fit_appearance(None, side, 200) if side else run.record.preprocessing
        split = open_dataset(data).validation
        judged = Appearance.of(how, run.recipe).judged(
            prepare(split, how.resize).squares.take(np.arange(len(split.labels)))
        )
        for index, seen in enumerate(judged):
            applied = how.apply(split.images.name(index))[0]
            assert torch.allclose(applied, seen, atol=1e-6), split.images.name(index)

    def test_other_shapes_and_an_earlier_end(self, run):
        assert dw.open(f"run:{run.directory}", (2, 3, 16, 16)).output_shapes == [(2, 3)]
        ended = dw.open(f"run:{run.directory}", until="2")
        assert ended.output_shapes == [(1, 8, 8, 8)]
        assert ended.pretrained.preprocessing == run.record.preprocessing

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"weights": "imagenet"}, "has its own weights: leave out --weights"),
            ({"settings": {"width": 0.5}}, "is built already: it takes no --set width"),
        ],
    )
    def test_what_a_run_has_already(self, run, options, reason):
        with pytest.raises(ValueError, match=reason):
            dw.open(f"run:{run.directory}", **options)

    def test_what_is_no_run_yet(self, run, tmp_path):
        with pytest.raises(ValueError, match=r"is no run: it has no run\.json"):
            dw.open(f"run:{tmp_path}")
        (tmp_path / "run.json").write_bytes((run.directory / "run.json").read_bytes())
        with pytest.raises(ValueError, match="has no weights yet"):
            dw.open(f"run:{tmp_path}")
        (tmp_path / "run.json").write_text("{}")
        with pytest.raises(ValueError, match=r"run\.json is damaged: network: Field required"):
            dw.open(f"run:{tmp_path}")

    def test_training_goes_on_from_a_run_with_other_classes(self, run, data, tmp_path):
        for split in ("train", "validation"):
            for name in ("left", "right"):
                target = tmp_path / "two" / split / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(data / split / name)
        recipe = RECIPE.model_copy(update={"epochs": 0.01, "learning_rate": 1e-9})
        name = f"run:{run.directory}"
        tuned = train(name, tmp_path / "two", recipe, directory=tmp_path / "tuned")
        assert tuned.record.network == NETWORK
        assert tuned.record.preprocessing == run.record.preprocessing
        before, after = (load_file(each.directory / "last.safetensors") for each in (run, tuned))
        best = load_file(run.directory / "best.safetensors")
        assert torch.allclose(after["0.weight"], best["0.weight"], atol=1e-5)
        assert before["8.weight"].shape[0] == 3
        assert after["8.weight"].shape[0] == 2
        assert dw.open(f"run:{tuned.directory}").output_shapes == [(1, 2)]


class Mine(nn.Module):
    """A user's network, in no file that could be named."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 7)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).amax((2, 3)))


class TestModules:
    def test_a_module_is_trained_and_opened_without_its_class(self, data, tmp_path):
        torch.manual_seed(0)
        mine = Mine()
        before = {name: each.clone() for name, each in mine.state_dict().items()}
        run = train(mine, data, RECIPE, directory=tmp_path / "run")
        assert all(torch.equal(before[name], each) for name, each in mine.state_dict().items())
        assert run.record.network == "Mine"
        source = dw.open(f"run:{run.directory}")
        assert source.pretrained.class_names == ("left", "middle", "right")
        trained = run.network()
        image = torch.randn(1, 3, 16, 16)
        with torch.no_grad():
            expected = trained(image).numpy()
        assert np.abs(source.run([image.numpy()])[0] - expected).max() < 1e-5
        assert np.abs(expected).max() > 1e-2
        with pytest.raises(ValueError, match=r"given as a module of class Mine: give it again"):
            Run.open(run.directory).network()

    def test_a_module_is_resumed_with_it(self, data, tmp_path):
        from test_training import StopsAt

        torch.manual_seed(0)
        mine = Mine()
        straight = train(mine, data, RECIPE, directory=tmp_path / "straight")
        stopped = train(mine, data, RECIPE, directory=tmp_path / "run", onlooker=StopsAt(9))
        with pytest.raises(ValueError, match="give it again"):
            resume(stopped.directory)
        assert dw.open(f"run:{stopped.directory}").shapes == ((1, 3, 16, 16),)
        resume(stopped.directory, net=Mine())
        for name in ("last", "network"):
            one, two = (
                load_file(each.directory / f"{name}.safetensors") for each in (straight, stopped)
            )
            assert all(torch.equal(one[key], two[key]) for key in one)

    def test_modules_that_are_refused(self, run, data, tmp_path):
        with pytest.raises(ValueError, match="is built already: it takes no setting 'width'"):
            train(Mine(), data, RECIPE, directory=tmp_path / "a", settings={"width": 1})
        with pytest.raises(ValueError, match=r"returns \(1, 3, 16, 16\) for an image of 16"):
            train(nn.Sequential(nn.Conv2d(3, 8, 1)), data, RECIPE, directory=tmp_path / "b")
        with pytest.raises(dw.Unsupported):
            train(
                nn.Sequential(nn.Flatten(), nn.Linear(768, 3), Sorts()),
                data,
                RECIPE,
                directory=tmp_path / "c",
            )
        with pytest.raises(
            ValueError, match="ReLU has no linear layer and no 1x1 convolution in it"
        ):
            train(nn.ReLU(), data, RECIPE, directory=tmp_path / "d")
        with pytest.raises(ValueError, match="leave out net"):
            resume(run.directory, net=Mine())


class Sorts(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x.T @ x).real[None, :3]


def test_results_are_written_with_shares_and_read_without(tmp_path):
    """Shares follow from the counts; a class without images has none, and JSON no NaN."""
    empty = ClassResult(name="a", images=0, right=0)
    split = SplitResult(
        images=4, right=3, loss=0.5, classes=(empty, ClassResult(name="b", images=4, right=3))
    )
    result = RunResult(epoch=1, seconds=2.0, validation=split, test=None)
    write_result(tmp_path, result)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["validation"]["accuracy"] == 0.75
    assert written["validation"]["interval"] == list(split.interval)
    assert [each["accuracy"] for each in written["validation"]["classes"]] == [None, 0.75]
    assert json.dumps(result.model_dump(mode="json"), allow_nan=False)
    assert read_result(tmp_path) == result
    written["validation"] |= {"accuracy": 0.9}  # by hand: the counts say otherwise
    (tmp_path / "result.json").write_text(json.dumps(written))
    assert read_result(tmp_path) == result
    written["validation"] |= {"correct": 3}
    (tmp_path / "result.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"result.json is damaged"):
        read_result(tmp_path)


class TestEvaluating:
    def test_a_run_is_as_right_as_its_result_says(self, run):
        for split in ("validation", "test"):
            judged = dw.evaluate(run, split=split)
            kept = getattr(run.result, split)
            assert judged.result.model_copy(update={"loss": 0}) == kept.model_copy(
                update={"loss": 0}
            )
            assert judged.result.loss == pytest.approx(kept.loss, rel=1e-5)
            assert judged.images_per_second > 0

    def test_classes_are_matched_by_name(self, run, data, tmp_path):
        """Where a class is missing, the others keep their names; in another order, too."""
        write_table(tmp_path / "some.csv", data, ["right", "middle"])
        judged = dw.evaluate(run.directory, tmp_path / "some.csv", split="test")
        whole = dw.evaluate(run.directory, data, split="test").result.classes
        assert [each.images for each in judged.result.classes] == [0, 5, 5]
        assert judged.result.classes[1:] == whole[1:]
        assert judged.result.classes[0].interval == (0, 1)

    def test_a_class_that_is_not_known(self, run, data, tmp_path):
        write_table(tmp_path / "some.csv", data, ["right", "middle"], {"middle": "centre"})
        with pytest.raises(
            ValueError, match=r"classes that run:.* does not know: centre; it knows left"
        ):
            dw.evaluate(run.directory, tmp_path / "some.csv", split="test")

    def test_broken_images_are_left_out_and_said(self, run, tmp_path):
        folder = write_images(tmp_path / "data", {"train": 2, "validation": 4})
        (folder / "validation" / "left" / "1.png").write_bytes(b"")
        judged = dw.evaluate(run, folder)
        assert [each.images for each in judged.result.classes] == [3, 4, 4]
        assert judged.left_out == (f"{folder}/validation/left/1.png is empty",)
        (folder / "validation" / "right" / "1.png").write_bytes(b"no image")
        with pytest.raises(ValueError, match="2 of 12 images cannot be read, and over 10% are not"):
            dw.evaluate(run, folder)

    def test_what_cannot_be_judged(self, run, data, tmp_path):
        with pytest.raises(ValueError, match=r"is neither a run .* nor a compiled library"):
            dw.evaluate(tmp_path, data)
        folder = write_images(tmp_path / "data", {"train": 2, "validation": 4})
        with pytest.raises(ValueError, match="has no test images"):
            dw.evaluate(run, folder, split="test")

    def test_several_judge_the_same_images_which_are_decoded_once(self, data, monkeypatch):
        """Each is given what its own preprocessing makes of a file, bit by bit."""
        usual, decoded = imagenet_preprocessing(16), []
        other = usual.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (1.0, 0.5, 0.25)})
        bicubic = other.model_copy(update={"interpolation": "bicubic"})
        seen = {how: [] for how in (usual, other, bicubic)}

        def classifier(how):
            def scores(images):
                seen[how].append(images)
                return np.zeros((len(images), 3), np.float32)

            return ImageClassifier("of a test", ("left", "middle", "right"), how, scores)

        def decode(content, name, how):
            decoded.append((name, how))
            return decode_framed(content, name, how)

        monkeypatch.setattr(judging, "decode_framed", decode)
        found = judge_classifiers(list(map(classifier, seen)), open_dataset(data), "validation")
        assert Counter(how for _, how in decoded) == {usual.framing: 21, bicubic.framing: 21}
        for how, judged in zip(seen, found, strict=True):
            wanted = [how.apply(name).numpy() for name in judged.found.names]
            assert np.array_equal(np.concatenate(seen[how]), np.concatenate(wanted))
            assert judged.result.right == 7
            middle = how.framing.apply(judged.found.names[5])[0].permute(1, 2, 0)
            assert np.array_equal(judged.pixels(5), np.rint(255 * middle.numpy()))

    def test_agreement_counts_ties_apart(self):
        names, labels = ("a", "b", "c"), np.zeros(3, np.int64)
        scores = np.array([[2.0, 1, 0], [1, 1.00001, -3], [0.5, 0.1, 0]])
        moved = np.array([[2.0, 1, 0], [1.00001, 1, -3], [0.1, 0.5, 0]])
        one, two = (Evaluation(("x", "y", "z"), labels, each, names) for each in (scores, moved))
        found = Agreement.of(one, two)
        assert (found.images, found.equal, found.ties, found.different) == (3, 1, 1, ("c",))
        assert "ANOTHER CLASS in c" in str(found)

    def test_pairs_that_are_confused(self):
        labels = np.array([0, 0, 0, 1, 1, 2])
        said = np.array([1, 1, 0, 0, 1, 2])
        found = Evaluation(("a", "b", "c"), labels, np.eye(3)[said])
        assert found.worst_pairs(5) == [("a", "b", 2), ("b", "a", 1)]

    def test_on_the_command_line(self, run, data, capsys):
        code, out, _ = command("evaluate", run.directory, data, "--json", capsys=capsys)
        assert code == 0
        said, kept = json.loads(out), run.result.validation
        assert said["accuracy"] == kept.accuracy
        assert [each["right"] for each in said["classes"]] == [each.right for each in kept.classes]
        assert sum(each["images"] for each in said["confused"]) == kept.images - kept.right
        code, out, _ = command("evaluate", run.directory, capsys=capsys)
        assert code == 0
        assert f"accuracy {kept.accuracy:.2%} of 21" in out

    def test_predict_names_what_the_run_learned(self, run, data, tmp_path, capsys):
        """By its own classes and its own preparation, whatever the folder's own folders are."""
        folder = tmp_path / "photographs"
        for name, other in (("left", "x"), ("middle", "y"), ("right", "z")):
            shutil.copytree(data / "test" / name, folder / other)
        code, out, _ = command("predict", folder, "--run", run.directory, "--json", capsys=capsys)
        assert code == 0
        said = [rows[0]["class"] for _, rows in sorted(json.loads(out).items())]
        found = dw.evaluate(run, split="test").found
        by_name = sorted(zip(found.names, found.predictions, strict=True))
        assert said == [found.classes[place] for _, place in by_name]
        code, _, err = command(
            "predict", "--run", run.directory, "--network", "vgg16", capsys=capsys
        )
        assert code == 2
        assert "leave out --network" in err


class TestPictures:
    def test_a_run_has_them(self, run):
        for name in ("curves", "confusion", "classes", "mistakes"):
            with Image.open(run.directory / f"{name}.png") as picture:
                assert picture.width == 645

    @pytest.mark.parametrize("count", [2, 100])
    def test_confusion(self, count):
        labels = np.arange(4 * count) % count
        said = np.where(np.arange(4 * count) < count, (labels + 1) % count, labels)
        found = Evaluation(tuple(f"class {i}" for i in range(count)), labels, np.eye(count)[said])
        figure = pictures.draw_confusion(found)
        shares = figure.axes[0].images[0].get_array()
        expected = np.eye(count) * 0.75 + 0.25 * np.roll(np.eye(count), 1, axis=1)
        assert np.array_equal(shares, expected)
        assert ("class 0 said class 1: 1" in figure.axes[0].get_xlabel()) == (count == 100)

    def test_classes_from_the_worst_to_the_best(self):
        counts = [("good", 10, 9), ("bad", 10, 2), ("none", 0, 0), ("fair", 20, 12)]
        classes = tuple(ClassResult(name=n, images=i, right=r) for n, i, r in counts)
        figure = pictures.draw_classes(SplitResult(images=40, right=23, loss=1, classes=classes))
        axis = figure.axes[0]
        names = [label.get_text() for label in axis.get_yticklabels()]
        assert names == ["bad (10)", "fair (20)", "good (10)"]
        assert list(axis.lines[0].get_xdata()) == [0.2, 0.6, 0.9]

    def test_the_surest_mistakes_come_first(self):
        labels = np.array([0, 0, 1, 1])
        scores = np.array([[0, 1.0], [0, 3], [0, 5], [2, 0]])
        found = Evaluation(("a", "b"), labels, scores)
        assert list(pictures.worst_mistakes(found)) == [1, 3, 0]
        images = [np.full((4, 4, 3), shade, np.uint8) for shade in (1, 2, 3)]
        axes = pictures.draw_mistakes(found, images).axes
        assert [axis.images[0].get_array().max() for axis in axes] == [1, 2, 3]
        assert axes[1].get_title(loc="left") == "b\nsaid a\n88.1% sure"

    def test_those_of_a_judgement(self, run, data, tmp_path):
        judged = dw.evaluate(run, data)
        judged.draw(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {
            "confusion.png", "classes.png", "mistakes.png",
        }  # fmt: skip
        with Image.open(data / "validation" / "left" / "0.png") as first:  # 16x16: seen whole
            assert np.array_equal(judged.pixels(0), np.asarray(first))


@pytest.mark.slow
def test_a_compiled_run_names_the_same_classes(run, data, tmp_path):
    dw.compile(f"run:{run.directory}").save(tmp_path / "library")
    judged = dw.evaluate(tmp_path / "library", data, against=run)
    assert judged.agreement.images == 21
    assert judged.agreement.equal + judged.agreement.ties == 21
    assert judged.result.right == pytest.approx(
        run.result.validation.right, abs=judged.agreement.ties
    )


@pytest.mark.slow
def test_shipping_judges_the_library_and_its_network(run, data, tmp_path):
    network = CurrentNetwork(dw.open(f"run:{run.directory}"))
    options = CompileOptions(tune=False)
    request = Request(
        "run", options, tmp_path / "library", "depthwise ship", data=open_dataset(data)
    )
    report = start_report(request, network)
    report = report.adding(build_library(request, network, report)[0])
    found, _ = judge_accuracy(request, network, report)
    kept = run.result.validation
    assert (found.network.right, found.network.images) == (kept.right, kept.images)
    assert found.network.interval == kept.interval
    assert [each.right for each in found.library.classes] == [each.right for each in kept.classes]
    assert (found.equal + found.ties, found.different) == (21, ())


def test_what_tells_images_that_were_judged_from_others(data, tmp_path):
    key = data_key(open_dataset(data))
    assert key == data_key(open_dataset(data))
    other = write_images(tmp_path / "data", {"train": 2, "validation": 4})
    before = data_key(open_dataset(other))
    image = other / "validation" / "left" / "0.png"
    Image.open(image).rotate(90).save(image)
    assert data_key(open_dataset(other)) != before
    assert data_key(None) == []
