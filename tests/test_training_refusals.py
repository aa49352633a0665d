"""What training refuses, in words that help: recipes, networks, damaged runs; and loses nothing."""

from pathlib import Path

import pytest
from test_training import NETWORK, RECIPE, halves

from depthwise.training import Recipe, train
from depthwise.training.resolution import side_at

UNFIT = Path(__file__).with_name("unfit_networks.py")
FLOATS = [name for name, field in Recipe.model_fields.items() if "float" in str(field.annotation)]


class TestRecipe:
    def test_floats_are_all_there(self):
        assert {"epochs", "time", "learning_rate", "mixup", "layer_decay", "temperature"} < {
            *FLOATS
        }
        assert len(FLOATS) == 17

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
            ("NormalizesOneValue", {"batch": 1}, r"\(1, 3, 16, 16\).*take a larger --batch"),
            ("OfOneSize", {"progressive": 0.5}, r"\(2, 3, 8, 8\) .*does not run"),
        ],
    )  # fmt: skip
    def test_what_is_refused_before_anything_is_written(self, tmp_path, name, changes, reason):
        recipe = RECIPE.model_copy(update=changes)
        with pytest.raises(ValueError, match=f"^{UNFIT}:{name}, given .*{reason}"):
            train(f"{UNFIT}:{name}", halves(), recipe, directory=tmp_path / "run")
        assert not (tmp_path / "run").exists()
