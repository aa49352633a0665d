"""Every field of a recipe does what it says: each test fails where its field is ignored."""

import itertools
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_training import NETWORK, RECIPE, StopsAt, assert_same_weights, halves, learn, weights
from torch import nn

from depthwise.layers import add_branches
from depthwise.sources.run_folder import build_again
from depthwise.training import Recipe, resume, train
from depthwise.training.average import fitted_decay
from depthwise.training.distributed import World
from depthwise.training.order import Order
from depthwise.training.pace import Pace
from depthwise.training.parts import TooLarge
from depthwise.training.state import Progress, part, read_state

FEW = RECIPE.model_copy(update={"epochs": 1})  # 8 steps
PLAIN = NETWORK.replace(":make", ":make_plain")
GREEDY = NETWORK.replace(":make", ":make_greedy")


@dataclass
class Listener:
    """Keeps what is said, and asks for all that a display shows."""

    said: list[str] = field(default_factory=list)
    asks_to_stop: bool = False

    def step(self, _progress, _loss, pace):
        assert pace.images_per_second > 0
        assert 0 <= pace.waiting <= 1
        assert pace.left is None or pace.left >= 0
        assert 0 <= pace.done <= 1

    def epoch(self, record):
        assert record.images_per_second > 0

    def say(self, text):
        self.said.append(text)


def differ(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return the directory of a run by FEW."""
    return learn(tmp_path_factory.mktemp("runs") / "plain", recipe=FEW).directory


@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": 0.4}, {"cutmix": 1.0}, {"augment": "rand"}, {"augment": "none"}, {"clip": 0.1},
        {"mirror": True}, {"label_smoothing": 0.0}, {"momentum": 0.5}, {"weight_decay": 0.5},
        {"schedule": "cosine"}, {"warmup": 0.5}, {"optimizer": "adamw"}, {"layer_decay": 0.5},
        {"learning_rate": 0.01}, {"batch": 4}, {"branches": 2}, {"precision": "bf16"},
        {"frozen": 0.5}, {"seed": 2}, {"resolution": 12}, {"frozen_norms": 0.5},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_field_changes_what_is_learned(plain, tmp_path, changes):
    network = NETWORK if "resolution" not in changes else PLAIN
    run = train(network, halves(), FEW.model_copy(update=changes), directory=tmp_path / "run")
    if "resolution" in changes:
        assert run.record.preprocessing.crop == 12
    else:
        assert differ(weights(plain), weights(run.directory))
    assert run.result.validation.accuracy > 0


def test_no_field_is_left_out():
    """What is not compared above: fields with tests of their own, and those of test_training."""
    named = {name for mark in test_a_field_changes_what_is_learned.pytestmark
             for changes in mark.args[1] for name in changes}  # fmt: skip
    own = {"average", "channels_last", "compile", "progressive"}
    taught = {"teacher", "teacher_share", "temperature", "feature_share"}  # test_distillation
    rounded = {"quantize"}  # test_training_quantised
    assert named | own | taught | rounded | {"epochs", "time"} == set(Recipe.model_fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": 0.4, "cutmix": 1.0, "augment": "rand"}, {"frozen": 0.7}, {"branches": 2},
        {"average": 0.9},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_it_goes_on_as_if_it_had_not_been_stopped(tmp_path, changes):
    recipe = FEW.model_copy(update=changes)
    learn(tmp_path / "whole", recipe=recipe)
    learn(tmp_path / "stopped", recipe=recipe, onlooker=StopsAt(3))
    resume(tmp_path / "stopped", halves())
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")


class TestAverage:
    def test_the_horizon_is_a_share_of_all_steps(self):
        assert fitted_decay(100) == pytest.approx(0.8)  # 5 steps
        assert fitted_decay(20_000) == pytest.approx(0.999)  # 1000 steps
        assert fitted_decay(10) == 0.0
        assert fitted_decay(None) > 0.999

    def test_a_run_has_it(self, tmp_path):
        recipe = RECIPE.model_copy(update={"epochs": 5})  # 40 steps: 2 of them
        learn(tmp_path / "fitted", recipe=recipe)
        learn(tmp_path / "named", recipe=recipe.model_copy(update={"average": 0.5}))
        learn(tmp_path / "other", recipe=recipe.model_copy(update={"average": 0.55}))
        assert_same_weights(tmp_path / "fitted", tmp_path / "named")
        assert differ(weights(tmp_path / "fitted"), weights(tmp_path / "other"))

    def test_it_follows_from_what_was_decided(self):
        progress = Progress(step=7, decisions=[(5, 100), (20, 80)])
        alone = World(0, 1, torch.device("cpu"))
        pace = Pace(RECIPE.model_copy(update={"time": 60.0}), Order(1, 64, 8), progress, alone)
        assert pace.moment.total == 100
        progress.step = 20
        assert pace.moment.total == 80
        progress.step = 4
        assert pace.moment.total is None

    def test_none_keeps_the_last_weights(self, tmp_path):
        run = learn(tmp_path / "run", recipe=FEW.model_copy(update={"average": 0}))
        state = part(load_file(run.directory / "state.safetensors"), "net.")
        assert not differ(weights(run.directory), state)


class TestFrozen:
    def test_only_the_classifier_learns_and_no_statistics_move(self, plain, tmp_path):
        start = weights(plain, "best")
        recipe = FEW.model_copy(update={"frozen": 1.0, "average": 0})
        run = learn(tmp_path / "run", recipe=recipe, weights=plain / "best.safetensors")
        assert differ(start, weights(run.directory)) == {"8.weight", "8.bias"}

    def test_all_learn_afterwards(self, plain, tmp_path):
        start = weights(plain, "best")
        recipe = FEW.model_copy(update={"frozen": 0.5, "average": 0})
        options = {"recipe": recipe, "weights": plain / "best.safetensors"}
        learn(tmp_path / "half", onlooker=StopsAt(4), **options)
        assert differ(start, weights(tmp_path / "half")) == {"8.weight", "8.bias"}
        learn(tmp_path / "whole", **options)
        assert differ(start, weights(tmp_path / "whole")) == set(start)

    def test_random_weights_are_not_frozen(self, tmp_path):
        recipe = FEW.model_copy(update={"frozen": 0.5})
        with pytest.raises(ValueError, match="the weights of mobilenet_v1 are random"):
            train(
                "mobilenet_v1", halves(), recipe, directory=tmp_path / "run",
                settings={"width": 0.25},
            )  # fmt: skip


def test_layer_decay_is_a_share_from_block_to_block(plain, tmp_path):
    """One step of SGD moves a parameter by its gradient times its rate."""
    one = FEW.model_copy(
        update={"epochs": 0.1, "weight_decay": 0.0, "average": 0, "momentum": 0.0, "warmup": 0.0}
    )
    start, moved = weights(plain, "best"), []
    for decay in (1.0, 0.5):
        recipe = one.model_copy(update={"layer_decay": decay})
        learn(tmp_path / str(decay), recipe=recipe, weights=plain / "best.safetensors")
        now = weights(tmp_path / str(decay))
        moved.append({name: now[name] - start[name] for name in ("0.weight", "3.weight", "8.bias")})
    for name, share in (("0.weight", 0.25), ("3.weight", 0.5), ("8.bias", 1.0)):
        torch.testing.assert_close(moved[1][name], share * moved[0][name], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("chosen", [True, False])
def test_how_images_and_weights_lie_in_memory(tmp_path, chosen):
    found = set()

    def note(module, inputs, _output):
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            each = (inputs[0], module.weight)
            found.add((
                module.training,
                *(one.is_contiguous(memory_format=torch.channels_last) for one in each),
                *(one.is_contiguous() for one in each),
            ))  # fmt: skip

    hook = nn.modules.module.register_module_forward_hook(note)
    try:
        learn(tmp_path / "run", recipe=FEW.model_copy(update={"channels_last": chosen}))
    finally:
        hook.remove()
    assert {(mode, chosen, chosen, not chosen, not chosen) for mode in (True, False)} <= found


class TestCompile:
    @pytest.fixture
    def eager(self, monkeypatch):
        """Return the networks that are compiled, by a compiler that changes nothing."""
        made = []

        def compile(net):
            def compute(images):
                made.append(net)
                return net(images)

            return compute

        monkeypatch.setattr(torch, "compile", compile)
        return made

    def test_the_compiled_network_learns_under_the_plain_names(self, plain, tmp_path, eager):
        recipe = FEW.model_copy(update={"compile": True})
        learn(tmp_path / "run", recipe=recipe, onlooker=StopsAt(3))
        assert len(eager) == 3
        resume(tmp_path / "run", halves())
        assert len(eager) == 8
        assert_same_weights(plain, tmp_path / "run")

    def test_what_cannot_be_compiled(self, tmp_path, monkeypatch):
        from torch._dynamo.exc import InternalTorchDynamoError

        def fails(_images):
            raise InternalTorchDynamoError("no compiler for C++\nand more")

        monkeypatch.setattr(torch, "compile", lambda _net: fails)
        recipe = FEW.model_copy(update={"compile": True, "precision": "auto"})
        with pytest.raises(ValueError, match=r"compile Sequential here: no compiler for C\+\+; "):
            learn(tmp_path / "run", recipe=recipe)

    @pytest.mark.slow
    def test_by_the_compiler_itself(self, tmp_path):
        for name in ("run", "plain"):
            recipe = FEW.model_copy(update={"compile": name == "run"})
            train(PLAIN, halves(), recipe, directory=tmp_path / name)
        found, wanted = weights(tmp_path / "run"), weights(tmp_path / "plain")
        assert found.keys() == wanted.keys()
        for name in found:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def branched(tmp_path_factory):
    recipe = FEW.model_copy(update={"branches": 3, "average": 0})
    return learn(tmp_path_factory.mktemp("runs") / "branched", recipe=recipe)


class TestBranches:
    def test_what_is_kept_has_the_names_of_the_plain_network(self, branched, plain):
        for name in ("best", "last"):
            kept, usual = weights(branched.directory, name), weights(plain, name)
            assert {k: v.shape for k, v in kept.items()} == {k: v.shape for k, v in usual.items()}
        names = load_file(branched.directory / "state.safetensors")
        assert any("branches.2" in name for name in names)

    def test_it_computes_what_the_branches_do(self, branched):
        net = build_again(branched.record, branched.directory)
        add_branches(net, 3)
        net.load_state_dict(part(read_state(branched.directory)[1], "net."))
        folded = branched.network("last.safetensors")
        images = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted = net.eval()(images)
            torch.testing.assert_close(folded(images), wanted, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(wanted, wanted[:1].expand_as(wanted), atol=1e-2)


class TestMemory:
    recipe = FEW.model_copy(update={"batch": 16, "mirror": True})

    def test_batches_that_do_not_fit_are_learned_in_parts(self, tmp_path):
        """The same weights as with memory enough; what is judged is divided, too."""
        listener = Listener()
        limited = train(
            GREEDY, halves(), self.recipe, directory=tmp_path / "limited",
            settings={"most": 5}, onlooker=listener,
        )  # fmt: skip
        free = train(PLAIN, halves(), self.recipe, directory=tmp_path / "free")
        assert len(listener.said) == 1
        assert "batches of 16 images do not fit" in listener.said[0]
        assert "in 4 parts of 4 or fewer" in listener.said[0]
        assert read_state(limited.directory)[0].parts == 4
        found, wanted = weights(limited.directory), weights(free.directory)
        for name in wanted:
            torch.testing.assert_close(found[f"net.{name}"], wanted[name], rtol=1e-4, atol=1e-6)
        assert limited.result.validation.right == free.result.validation.right

    def test_nothing_fits(self, tmp_path):
        with pytest.raises(TooLarge, match="does not hold the network and 2 images"):
            train(GREEDY, halves(), self.recipe, directory=tmp_path / "run", settings={"most": 0})


class TestPace:
    @pytest.mark.parametrize(
        ("count", "changes"),
        [
            (2, {"epochs": 3}),  # one batch an epoch
            (3, {"epochs": 2, "batch": 2}),  # batches that lie in two epochs
            (10, {"epochs": 0.01}),  # a part of one
            (10, {"epochs": 1e6, "time": 1e-3}),  # over when the first step is
            (6, {"epochs": 4, "time": 100.0, "batch": 3, "mixup": 0.2, "frozen": 0.5}),
        ],
    )
    def test_few_images_and_short_epochs(self, tmp_path, count, changes):
        recipe = Recipe(batch=8, precision="fp32").model_copy(update=changes)
        run = learn(tmp_path / "run", halves(count), recipe, onlooker=Listener())
        assert run.result.epoch >= 1

    def test_a_coarse_clock(self, tmp_path, monkeypatch):
        """One that stands still for a whole epoch, as a fast step on a slow clock sees it."""
        ticks = itertools.count(step=0)
        monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
        run = learn(tmp_path / "run", halves(8), FEW, onlooker=Listener())
        assert run.result.seconds == 0
        assert np.isfinite(run.result.validation.loss)


def test_progressive_resolution_grows(tmp_path):
    seen = []

    def note(module, inputs, _output):
        learns = module.training and len(inputs[0]) == FEW.batch  # no trial of a few images
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and learns:
            seen.append(inputs[0].shape[-1])

    hook = nn.modules.module.register_module_forward_hook(note)
    try:
        recipe = FEW.model_copy(update={"progressive": 0.5, "resolution": 64})
        train(PLAIN, halves(), recipe, directory=tmp_path / "run")
    finally:
        hook.remove()
    assert seen[0] == 32
    assert seen[-1] == 64
    assert seen == sorted(seen)
