"""In what convolutions compute: float16's scaled losses, and which precision is fast here."""

import time

import pytest
import torch
from test_training import RECIPE, StopsAt, assert_same_weights, halves, learn
from test_training_recipe_fields import Listener
from tiny_network import make

from depthwise.training import begin, resume
from depthwise.training.augment import Appearance
from depthwise.training.distributed import Replicas, World
from depthwise.training.divergence import Diverged
from depthwise.training.feed import Batch
from depthwise.training.learner import Learner
from depthwise.training.losses import CrossEntropy
from depthwise.training.optimizer import make_optimizer, parameter_groups
from depthwise.training.order import Seen
from depthwise.training.precision import MixedPrecision, fastest, say_slow, step_times
from depthwise.training.schedule import Moment
from depthwise.training.state import Progress, read_state
from depthwise.weights import imagenet_preprocessing

CPU = torch.device("cpu")
HALF = RECIPE.model_copy(update={"epochs": 1, "precision": "fp16"})  # 8 steps


def learner(optimizer, clip):
    torch.manual_seed(0)
    net, recipe = make(2), HALF.model_copy(update={"clip": clip})
    rule = make_optimizer(optimizer, parameter_groups(net, 0.01), 0.05)
    look = Appearance.of(imagenet_preprocessing(16), recipe)
    model, precision = Replicas(net, World(0, 1, CPU)), MixedPrecision("fp16", CPU)
    return Learner(net, model, rule, precision, look, recipe, CrossEntropy(0.1))


def copied(learner):
    """Return all that a step changes: weights, statistics, their average and the momenta."""
    state = learner.optimizer.state
    momenta = {
        f"{name}.{entry}": value.clone()
        for name, parameter in learner.net.named_parameters()
        for entry, value in state[parameter].items()
    }
    average = {f"average.{name}": value for name, value in learner.average.state().items()}
    now = {name: value.clone() for name, value in learner.net.state_dict().items()}
    return now | momenta | average


@pytest.mark.parametrize(("optimizer", "clip"), [("sgd", None), ("sgd", 1.0), ("adamw", None)])
def test_a_step_whose_gradients_overflow_changes_nothing(optimizer, clip):
    made = halves().train
    squares = torch.tensor(made.images.pixels[:8]).permute(0, 3, 1, 2)
    labels = torch.tensor(made.labels[:8])
    batch = Batch(squares, labels, Seen(made.images.numbers[:8], 0 * made.labels[:8]))
    student = learner(optimizer, clip)

    def step():
        student.learn(batch, Moment(0.0, 100), Progress())
        return copied(student)

    first, before = step(), step()
    assert all(not torch.equal(first[name], before[name]) for name in before)
    student.precision.restore(2.0**60, 7)  # of numbers up to 65,504
    after = step()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (student.precision.scale, student.precision.since_overflow) == (2.0**59, 0)
    student.precision.restore(2.0**10, 7)
    assert all(not torch.equal(after[name], value) for name, value in step().items())
    assert (student.precision.scale, student.precision.since_overflow) == (2.0**10, 8)


def test_gradients_that_overflow_for_good_end_a_training():
    """The scale is halved from step to step; at 0, after 165, gradients would be 0 / 0."""
    net = torch.nn.Linear(2, 1)
    before = net.weight.detach().clone()
    optimizer, half = (
        make_optimizer("sgd", parameter_groups(net, 0.0), 0.1),
        MixedPrecision("fp16", CPU),
    )

    def step():
        half.backward(torch.inf * net.weight.sum())
        return half.step(net, optimizer, None)

    assert not any(step() for _ in range(16))  # from 65,536 to 1
    with pytest.raises(Diverged, match=r"overflow float16.*with precision fp32"):
        step()
    assert torch.equal(net.weight, before)


def test_a_run_in_float16_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    learn(tmp_path / "whole", recipe=HALF)
    learn(tmp_path / "stopped", recipe=HALF, onlooker=StopsAt(3))
    resume(tmp_path / "stopped", halves())
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")
    for name in ("whole", "stopped"):
        progress, _ = read_state(tmp_path / name)
        assert (progress.scale, progress.since_overflow) == (65536.0, 8)


class TestFastest:
    def steps(self, **behaviour):
        """Return steps that take so many seconds, in turn those of a list, or that fail."""

        def step_in(name, of_few):
            def step():
                self.calls.append((name, of_few))
                found = behaviour[name]
                found = found.pop(0) if isinstance(found, list) else found
                if isinstance(found, Exception):
                    raise found
                time.sleep(found)

            return step

        self.calls = []
        return step_in

    def test_one_that_diverges_or_has_no_kernel_is_not_taken(self):
        steps = self.steps(fp32=0.02, bf16=RuntimeError("no kernel"), fp16=Diverged("nan"))
        times = step_times(steps)
        assert times.keys() == {"fp32"}
        assert fastest(times) == "fp32"

    def test_one_that_is_far_slower_is_timed_once_on_a_few_images(self):
        times = step_times(self.steps(fp32=0.01, bf16=0.1, fp16=0.005))
        assert fastest(times) == "fp16"
        assert [of_few for name, of_few in self.calls if name == "bf16"] == [True, True]
        assert 60 < times["bf16"] < 1000

    def test_one_that_is_slower_on_many_images_alone_is_timed_once_on_those(self):
        times = step_times(self.steps(fp32=0.01, bf16=[0.02] * 4 + [0.1] * 4, fp16=0.005))
        assert [of_few for name, of_few in self.calls if name == "bf16"] == [True] * 4 + [False] * 2
        assert 60 < times["bf16"] < 1000

    def test_a_first_step_that_makes_ready_does_not_count(self):
        times = step_times(self.steps(fp32=0.01, bf16=[0.2] + [0.003] * 7, fp16=0.02))
        assert fastest(times) == "bf16"

    def test_a_first_step_that_takes_long_is_the_only_one(self, monkeypatch):
        monkeypatch.setattr("depthwise.training.precision.READY", 0.05)
        step_times(self.steps(fp32=0.01, bf16=0.01, fp16=0.1))
        assert self.calls.count(("fp16", True)) == 1
        assert ("fp16", False) not in self.calls

    @pytest.mark.parametrize("error", [Diverged("nan"), RuntimeError("of a test")])
    def test_where_float32_fails_that_is_said(self, error):
        with pytest.raises(type(error), match=str(error)):
            step_times(self.steps(fp32=error, bf16=0.01, fp16=0.01))


def test_a_precision_that_was_chosen_and_is_slow_is_said_once(tmp_path, monkeypatch):
    asked = []

    def times(_step_in, names):
        asked.append(names)
        return {"fp32": 20.0, "fp16": 610.0}

    monkeypatch.setattr(begin, "step_times", times)
    onlooker = Listener()
    run = learn(tmp_path / "run", recipe=HALF, onlooker=onlooker)
    assert run.recipe.precision == "fp16"
    assert asked == [["fp16"]]
    (said,) = onlooker.said
    assert said.startswith("fp16 takes 30.5 times as long as fp32 here, 610 ms a step beside 20")
    assert say_slow("bf16", {"fp32": 20.0, "bf16": 30.0}) == ""
