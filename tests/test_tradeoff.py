"""Accuracy against cost: what is trained and in which order, what is refused, what is drawn."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from depthwise.cli import main, stopping
from depthwise.report.tradeoff_picture import tradeoff_picture
from depthwise.runtime.library import load
from depthwise.training import Recipe, Run
from depthwise.training.divergence import Diverged
from depthwise.training.tradeoff import Tradeoff, TradeoffRequest
from depthwise.training.tradeoff_points import Point, Points, milliseconds

TINY = Path(__file__).with_name("tiny_network.py")
WIDE, FIXED = f"{TINY}:make_wide", f"{TINY}:make"
RECIPE = Recipe(epochs=2, batch=8, seed=1, precision="fp32", learning_rate=0.05)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a folder of images of 16x16 pixels, bright above or below."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 16), ("validation", 8)):
        for label, name in enumerate(("above", "below")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 80, (16, 16, 3), np.uint8)
                pixels[8 * label : 8 * label + 8] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def plan(images, out, widths=(1, 0.5), shares=(1, 0.5), network=WIDE, recipe=RECIPE, **options):
    request = TradeoffRequest(network, str(images), recipe, **options)
    return Tradeoff.plan(request, out, widths, shares)


def names(combinations):
    return [each.name for each in combinations]


class StopsAt:
    def __init__(self, number):
        self.number, self.asks_to_stop = number, False

    def step(self, progress, _loss, _pace):
        self.asks_to_stop = progress.step == self.number

    def epoch(self, _record):
        pass


class TestPlan:
    def test_the_corners_come_first_and_the_middle_before_the_edges(self, images, tmp_path):
        found = plan(images, tmp_path, (1, 0.5, 0.25), (1, 0.75, 0.5)).combinations
        assert names(found[:2]) == ["width-1-16px", "width-0.25-8px"]
        assert set(names(found[2:4])) == {"width-1-8px", "width-0.25-16px"}
        assert names(found)[4] == "width-0.5-12px"
        assert len({*names(found)}) == 9

    def test_what_each_costs(self, images, tmp_path):
        found = {each.name: each for each in plan(images, tmp_path).combinations}
        # 3x3 at half the side, depthwise 3x3, and a linear layer of 2 classes
        for name, channels, side in (("width-1-16px", 8, 16), ("width-0.5-8px", 4, 8)):
            places = (side // 2) ** 2
            assert found[name].cost.macs == places * channels * (27 + 9) + 2 * channels
            assert found[name].cost.params == channels * (27 + 2 + 9 + 2) + 2
        assert found["width-1-8px"].cost.params == found["width-1-16px"].cost.params

    def test_a_network_as_it_is(self, images, tmp_path):
        assert names(plan(images, tmp_path, (), (1, 0.5)).combinations) == ["16px", "8px"]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"widths": (1, 0)}, "--width 0: a multiplier is accepted, above 0"),
            ({"widths": (math.inf,)}, "--width inf: a multiplier is accepted"),
            ({"widths": (1, 1)}, "--width 1: it is there twice"),
            ({"widths": (0.01,)}, r"--width 0\.01: .*make_wide"),
            ({"widths": (1,), "network": FIXED}, r"--width 1: .*tiny_network\.py:make.*'width'"),
            ({"widths": (1,), "network": "googlenet"}, "--width 1: googlenet has no option"),
            ({"shares": (1, 1.5)}, r"--resolution 1\.5: .*above 0, at most 1"),
            ({"shares": (0.4,)}, "--resolution 0.4: of 16 pixels, that leaves 6; at least 8"),
            ({"recipe": RECIPE.model_copy(update={"seed": 2**31})}, "--seeds: seed=2147483648"),
            ({"shares": (1, 0.99)}, r"--resolution 1 and 0\.99 are both 16 pixels"),
            (
                {"widths": (), "shares": (1, 0.5), "network": FIXED},
                "make does not take images of 8 pixels, --resolution 0.5 of its 16",
            ),
        ],
    )
    def test_what_is_refused_before_anything_is_trained(self, images, tmp_path, options, reason):
        with pytest.raises(ValueError, match=reason):
            plan(images, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


class TestTraining:
    def test_what_is_finished_is_left_and_what_was_stopped_goes_on(self, images, tmp_path):
        whole, broken = (plan(images, tmp_path / name, (1,), (1, 0.5)) for name in "ab")
        for combination, seed in whole.left:
            assert whole.learn(combination, seed).result
        assert whole.left == []
        first, second = broken.combinations
        assert not broken.learn(first, 1, StopsAt(3)).result
        again = plan(images, tmp_path / "b", (1,), (1, 0.5))
        assert names(each for each, _ in again.left) == names([first, second])
        again.learn(again.combinations[0], 1)
        assert names(each for each, _ in again.left) == [second.name]
        one, other = (
            load_file(each.run_directory(first, 1) / "last.safetensors") for each in (whole, again)
        )
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_each_run_is_what_train_would_have_made(self, images, tmp_path):
        planned = plan(images, tmp_path / "out", (0.5,), (0.5,), settings={})
        (combination, seed), *rest = planned.left
        assert (seed, rest) == (1, [])
        run = planned.learn(combination, seed)
        assert run.record.settings["width"] == 0.5
        assert (run.recipe.resolution, run.record.preprocessing.crop) == (8, 8)
        result = planned.result(combination, seed)
        assert result == run.result.validation  # there is no test split
        assert planned.split == "validation"

    def test_seeds(self, images, tmp_path):
        request = TradeoffRequest(WIDE, str(images), RECIPE)
        planned = Tradeoff.plan(request, tmp_path, (1,), (1, 0.5), 2)
        assert [(each.side, seed) for each, seed in planned.left] == [
            (16, 1), (8, 1), (16, 2), (8, 2),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"recipe": RECIPE.model_copy(update={"epochs": 3})}, "epochs 2.0, and 3 is asked for"),
            ({"network": FIXED, "widths": ()}, "network .*make_wide, and .*make is asked for"),
        ],
    )
    def test_a_run_of_something_else_is_not_taken(self, images, tmp_path, change, reason):
        widths = change.pop("widths", (1,))
        first = plan(images, tmp_path, widths, (1,))
        first.learn(first.combinations[0], 1)
        with pytest.raises(ValueError, match=rf"was trained with {reason}.*another --out"):
            plan(images, tmp_path, widths, (1,), **change)


@pytest.fixture
def points(images, tmp_path):
    """Return four points, the first of two trainings."""
    rows = plan(images, tmp_path / "none").combinations
    made = [Point(each, 100, (95 - 5 * at,), 0.2 / (at + 1)) for at, each in enumerate(rows)]
    made[0] = replace(made[0], right=(90, 92))
    return Points("tiny", "photos", "test", tuple(made), "a CPU", "")


@pytest.mark.slow
def test_what_is_timed_is_the_trained_network(images, tmp_path):
    planned = plan(images, tmp_path, (1,), (0.5,))
    ((combination, seed),) = planned.left
    run = planned.learn(combination, seed)
    library = planned.library(combination)
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    with torch.no_grad():
        said = run.network()(torch.from_numpy(image)).numpy()
    assert library(image) == pytest.approx(said, abs=1e-4)
    files = {path: path.stat().st_mtime_ns for path in (run.directory / "library").iterdir()}
    assert planned.library(combination)(image) == pytest.approx(said, abs=1e-4)
    assert files == {path: path.stat().st_mtime_ns for path in files}  # not compiled again
    (run.directory / "library" / "net.c").write_text("damaged")
    assert planned.library(combination)(image) == pytest.approx(said, abs=1e-4)
    assert load(run.directory / "library")(image) == pytest.approx(said, abs=1e-4)


class TestPoints:
    def test_mean_spread_and_interval(self, points):
        first, second = points.points[:2]
        assert first.accuracy == pytest.approx(0.91)
        assert first.spread == pytest.approx(math.sqrt(2) / 100)
        # scipy.stats.binomtest(91, 100).proportion_ci(method="wilson")
        assert first.interval == pytest.approx((0.837736, 0.951931), abs=1e-5)
        assert second.spread is None

    def test_csv(self, points):
        rows = list(csv.DictReader(io.StringIO(points.csv())))
        assert len(rows) == 4
        assert rows[0]["accuracies"] == "0.900000 0.920000"
        assert (rows[0]["trainings"], rows[1]["trainings"]) == ("2", "1")
        assert (rows[0]["processor"], rows[0]["split"]) == ("a CPU", "test")
        assert (rows[0]["pixels"], rows[0]["width"]) == ("16", "1")

    def test_the_picture_names_widths_resolutions_and_the_cpu(self, points, tmp_path):
        tradeoff_picture(points, tmp_path / "p.svg")
        text = (tmp_path / "p.svg").read_text()
        for shown in ("16 pixels", "8 pixels", ">0.5<", ">1<", "a CPU", "means of 2 trainings"):
            assert shown in text
        assert "NO MEASUREMENT" not in text
        busy = replace(points, disturbed="others took half", points=points.points[:1])
        tradeoff_picture(busy, tmp_path / "p.svg")
        assert "NO MEASUREMENT: others took half" in (tmp_path / "p.svg").read_text()

    def test_libraries_take_turns_and_the_slower_one_takes_longer(self):
        calls = []
        found = milliseconds([_Sleeps("short", 0.002, calls), _Sleeps("long", 0.02, calls)])
        assert 2 <= found[0] < found[1]
        assert found[1] >= 20
        turns = [name for at, name in enumerate(calls) if at == 0 or calls[at - 1] != name]
        assert turns == ["short", "long"] * 7


class _Sleeps:
    """A library that does nothing for some seconds."""

    class _Input:
        dtype, shape = "float32", (1, 1)

    def __init__(self, name, seconds, calls):
        self.name, self.seconds, self.calls = name, seconds, calls
        self.manifest = type("M", (), {"network": type("N", (), {"inputs": [self._Input]})})

    def run(self, _arrays):
        import time

        self.calls.append(self.name)
        time.sleep(self.seconds)


class TestVerb:
    def arguments(self, images, out, *more):
        (out.parent / "r.toml").write_text('precision = "fp32"\nbatch = 8\n')
        recipe = ["--recipe", str(out.parent / "r.toml")]
        return ["tradeoff", str(images), "--network", WIDE, *recipe, "--out", str(out), *more]

    def test_from_images_to_a_table_and_a_picture(self, images, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(Tradeoff, "library", lambda *_: _Sleeps("none", 0.001, []))
        out = tmp_path / "out"
        more = ("--width", ".5", "--resolution", ".5", "--epochs", "4", "--seeds", "2", "--json")
        for _ in range(2):
            with pytest.raises(SystemExit) as end:
                main(self.arguments(images, out, *more))
            assert end.value.code == 0
            said = capsys.readouterr()
            (row,) = json.loads(said.out)["points"]
            assert (row["pixels"], row["width"], row["trainings"]) == (8, 0.5, 2)
            assert 0 < row["milliseconds"] < 100
        assert "trainings of" not in said.err  # the second time nothing was left
        with Image.open(out / "tradeoff.png") as picture:
            assert picture.size[0] > 1000
        kept = next(csv.DictReader(io.StringIO((out / "tradeoff.csv").read_text())))
        run = Run.open(out / "width-0.5-8px-seed-0")
        assert float(kept["accuracies"].split()[0]) == run.result.validation.accuracy

    def test_a_training_that_diverges_does_not_keep_others_from_theirs(
        self, images, tmp_path, capsys, monkeypatch
    ):
        learn = Tradeoff.learn

        diverging = {16}

        def sometimes(self, combination, seed, onlooker):
            if combination.side in diverging:
                raise Diverged("at step 3 the loss became nan")
            return learn(self, combination, seed, onlooker)

        monkeypatch.setattr(Tradeoff, "learn", sometimes)
        monkeypatch.setattr(Tradeoff, "library", lambda *_: _Sleeps("none", 0.001, []))
        more = ("--resolution", "1,.5", "--epochs", "1", "--json")
        for name, code in (("out", 0), ("out", 0), ("other", 2)):
            with pytest.raises(SystemExit) as end:
                main(self.arguments(images, tmp_path / name, *more))
            said = capsys.readouterr()
            assert end.value.code == code
            assert "16px-seed-0: at step 3 the loss became nan" in said.err
            if not code:
                assert [row["pixels"] for row in json.loads(said.out)["points"]] == [8]
            diverging.add(8)  # where it is finished, it stays so

    def test_ctrl_c_says_how_to_go_on(self, images, tmp_path, capsys, monkeypatch):
        def interrupted(*_):
            raise stopping.Stopped

        monkeypatch.setattr(Tradeoff, "learn", interrupted)
        with pytest.raises(SystemExit) as end:
            main(self.arguments(images, tmp_path / "out"))
        assert end.value.code == 130
        assert "interrupted; the same command goes on with it" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("option", "reason"),
        [
            (("--width", "1,,2"), "--width 1,,2: expected multipliers, as in --width 1,.75,.5"),
            (("--width", "nan"), "--width nan: expected multipliers"),
            (("--resolution", "224"), "--resolution 224: a multiplier is accepted"),
        ],
    )
    def test_what_is_no_multiplier(self, images, tmp_path, capsys, option, reason):
        with pytest.raises(SystemExit) as end:
            main(self.arguments(images, tmp_path / "out", *option))
        assert end.value.code == 2
        assert reason in capsys.readouterr().err
