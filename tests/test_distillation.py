"""Learning from a teacher: losses in closed form, teachers of each kind, runs of a few steps."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_training import NETWORK, RECIPE, StopsAt, assert_same_weights, halves, learn, weights
from test_training_recipe_fields import PLAIN, Listener, differ
from torch import nn
from torchvision.transforms.v2.functional import resize

from depthwise.training import Recipe, resume, train
from depthwise.training.data.dataset import Dataset
from depthwise.training.distill import Distillation, softened, unlike
from depthwise.training.feature_maps import FeatureMaps
from depthwise.training.losses import CrossEntropy
from depthwise.training.mixing import Targets
from depthwise.training.teacher import Teacher, TrainedNetwork, open_trained
from depthwise.weights import Preprocessing, create_model

FEW = RECIPE.model_copy(update={"epochs": 1})
PLAIN_LOOK = Preprocessing(
    resize=16, crop=16, interpolation="bilinear", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Return a run of which others learn."""
    return learn(tmp_path_factory.mktemp("runs") / "teacher")


class Says(nn.Module):
    """Returns the scores that it was given, whatever the images, and keeps these."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.images = nn.Parameter(scores), None

    def forward(self, x):
        self.images = x
        return self.scores[: len(x)]


def test_softened_is_hintons_loss():
    """T² · sum p log(p / q), p and q the softmax of scores / T; and its gradient."""
    scores = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], requires_grad=True)
    taught = torch.tensor([[0.5, 1.0, -1.0], [2.0, 2.0, 0.0]])
    found = softened(scores, taught, 3.0)
    expected = 0.0
    for own, wanted in zip(scores.tolist(), taught.tolist(), strict=True):
        q, p = ([math.exp(v / 3) for v in row] for row in (own, wanted))
        q, p = ([v / sum(row) for v in row] for row in (q, p))
        expected += 9 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
    q, p = ((each.detach() / 3).softmax(1) for each in (scores, taught))
    torch.testing.assert_close(scores.grad, 3 * (q - p) / 2)  # T (q - p) an image
    assert softened(taught, taught, 3.0).item() == pytest.approx(0, abs=1e-6)


def test_unlike_is_a_share_of_what_is_wanted():
    wanted = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert unlike(wanted, wanted).item() == 0
    assert unlike(torch.zeros_like(wanted), wanted).item() == pytest.approx(1)
    assert unlike(2 * wanted, 1 * wanted).item() == pytest.approx(1)
    halved = wanted.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    assert unlike(wanted, halved).item() == pytest.approx(0, abs=1e-12)
    assert unlike(halved, wanted).item() == pytest.approx(0, abs=1e-12)


def test_each_part_of_the_loss_has_its_share():
    torch.manual_seed(0)
    net, other = (
        nn.Sequential(
            nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, 3),
        )
        for width in (4, 6)
    )  # fmt: skip
    known = TrainedNetwork(other, PLAIN_LOOK, ("a", "b", "c"))
    recipe = Recipe(teacher="x", teacher_share=0.5, feature_share=0.2, temperature=3.0)
    loss = Distillation(Teacher(known, PLAIN_LOOK, ("c", "a", "b")), net, 16, recipe)
    images, labels = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    scores = net(images)
    found = loss(images, scores, Targets(labels))
    own, wanted = net[:2](images), other[:2](images)
    shares = (
        0.3 * CrossEntropy(0.1)(images, scores, Targets(labels)),
        0.5 * softened(scores, other(images)[:, [2, 0, 1]], 3.0),
        0.2 * unlike(loss.weights(own), wanted),
    )
    torch.testing.assert_close(found, sum(shares))
    found.backward()
    assert loss.weights.weight.grad.abs().sum() > 0
    assert net[0].weight.grad.abs().sum() > 0
    assert all(each.grad is None for each in other.parameters())


def test_a_teacher_sees_the_very_images_as_it_is_used_to_see_them():
    """Their normalisation undone and its own done, its resolution, its classes by name."""
    scores = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    how = Preprocessing(
        resize=26, crop=24, interpolation="bilinear", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)
    )
    teacher = Teacher(
        TrainedNetwork(Says(scores), how, ("cat", "dog", "bird")), PLAIN_LOOK, ("bird", "cat")
    )
    pixels = torch.rand(2, 3, 16, 16)
    ours, theirs = (
        [torch.tensor(each).view(3, 1, 1) for each in (look.mean, look.std)]
        for look in (PLAIN_LOOK, how)
    )
    said = teacher((pixels - ours[0]) / ours[1])
    assert said.tolist() == [[3.0, 1.0], [6.0, 4.0]]
    wanted = (resize(pixels, [24, 24], antialias=True) - theirs[0]) / theirs[1]
    torch.testing.assert_close(teacher.net.images, wanted, rtol=1e-5, atol=1e-5)


class TestFeatureMaps:
    @pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v1"])
    def test_they_are_what_the_classifier_pools(self, name):
        net = create_model(name, num_classes=3, width=0.25).eval()
        pooled = []
        net.pool.register_forward_pre_hook(lambda _module, inputs: pooled.append(inputs[0]))
        maps = FeatureMaps(net, 64)
        net(torch.rand(2, 3, 64, 64))
        found = maps.take()
        assert torch.equal(found, pooled[-1])
        assert found.shape == (2, maps.channels, 2, 2)

    def test_a_classifier_that_is_a_convolution(self):
        shared = nn.ReLU()
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), shared, nn.Conv2d(4, 2, 1), shared,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        maps = FeatureMaps(net, 16)
        assert (maps.name, maps.channels) == ("1", 4)  # `shared` is called again later

    def test_the_network_is_left_as_it_was(self):
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, 2),
        ).train()  # fmt: skip
        net[1].eval()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        FeatureMaps(net, 16)
        assert not differ(before, net.state_dict())
        assert (net.training, net[0].training, net[1].training) == (True, True, False)

    def test_there_are_none(self):
        with pytest.raises(ValueError, match="no module before its classifier"):
            FeatureMaps(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)), 16)


class TestRuns:
    def test_a_run_learns_from_a_run(self, taught, tmp_path):
        listener = Listener()
        recipe = FEW.model_copy(
            update={"teacher": str(taught.directory), "teacher_share": 0.9, "mixup": 0.2}
        )
        run = train(PLAIN, halves(), recipe, directory=tmp_path / "run", onlooker=listener)
        accuracy = taught.result.validation.accuracy
        assert run.record.teacher_accuracy == accuracy
        assert listener.said == [
            f"the teacher, {taught.directory}: validation accuracy {accuracy:.2%}"
        ]
        alone = recipe.model_copy(update={"teacher": None})
        train(PLAIN, halves(), alone, directory=tmp_path / "alone")
        assert differ(weights(tmp_path / "run"), weights(tmp_path / "alone"))
        for change in ({"temperature": 4.0}, {"teacher_share": 0.5}, {"feature_share": 0.1}):
            directory = tmp_path / next(iter(change))
            train(PLAIN, halves(), recipe.model_copy(update=change), directory=directory)
            assert differ(weights(tmp_path / "run"), weights(directory))

    def test_features_and_a_stop(self, taught, tmp_path):
        """What reads the maps goes on where it was, and is no part of what is kept."""
        recipe = FEW.model_copy(
            update={"teacher": str(taught.directory), "feature_share": 0.3, "branches": 2}
        )
        learn(tmp_path / "whole", recipe=recipe)
        learn(tmp_path / "stopped", recipe=recipe, onlooker=StopsAt(3))
        state = load_file(tmp_path / "stopped" / "state.safetensors")
        assert "net.loss.weight" in state
        assert "optimizer.loss.weight.momentum_buffer" in state
        resume(tmp_path / "stopped", halves())
        assert_same_weights(tmp_path / "whole", tmp_path / "stopped")
        assert weights(tmp_path / "whole").keys() == weights(taught.directory).keys()

    def test_a_teacher_of_other_classes(self, taught, tmp_path):
        other = halves()
        renamed = Dataset("halves", ("upper", "middle"), other.train, other.validation, None)
        recipe = FEW.model_copy(update={"teacher": str(taught.directory)})
        with pytest.raises(ValueError, match="does not know the classes middle: its own are upper"):
            learn(tmp_path / "run", renamed, recipe)
        features = recipe.model_copy(update={"teacher_share": 0.0, "feature_share": 0.5})
        run = learn(tmp_path / "features", renamed, features)
        assert run.record.teacher_accuracy is None

    @pytest.mark.slow
    def test_with_the_network_compiled(self, taught, tmp_path, monkeypatch):
        """The maps are those of the compiled network, too: PyTorch's own tracing, run eagerly."""
        compile = torch.compile
        monkeypatch.setattr(torch, "compile", lambda net: compile(net, backend="eager"))
        recipe = FEW.model_copy(update={"teacher": str(taught.directory), "feature_share": 0.3})
        learn(tmp_path / "plain", recipe=recipe)
        learn(tmp_path / "compiled", recipe=recipe.model_copy(update={"compile": True}))
        assert_same_weights(tmp_path / "plain", tmp_path / "compiled")


class TestTeachers:
    def test_the_bundled_one(self):
        known = open_trained("imagenet")
        assert known.preprocessing.crop == 224
        assert len(known.classes) == 1000
        assert not known.net.training

    def test_a_checkpoint_with_names(self, tmp_path):
        net = create_model("mobilenet_v1", width=1.0, num_classes=3)
        torch.save({"state_dict": net.state_dict(), "classes": ["a", "b", "c"]}, tmp_path / "w.pth")
        known = open_trained(f"mobilenet_v1@{tmp_path / 'w.pth'}")
        assert known.classes == ("a", "b", "c")
        assert known.preprocessing.crop == 224
        images = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(known.net(images), net.eval()(images))

    def test_a_checkpoint_of_which_nothing_is_known(self, tmp_path, taught):
        save_file(weights(taught.directory), tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=r"8\.weight"):
            open_trained(f"{NETWORK}@{tmp_path / 'w.safetensors'}")

    def test_timm(self, monkeypatch):
        timm = pytest.importorskip("timm")
        made, asked = timm.create_model, []

        def create(name, pretrained=False):
            asked.append(pretrained)
            return made(name, pretrained=False, num_classes=1000)  # without the download

        monkeypatch.setattr(timm, "create_model", create)
        known = open_trained("timm:mobilenetv3_small_050")
        assert set(asked) == {True}
        assert known.preprocessing.mean == (0.485, 0.456, 0.406)
        assert known.preprocessing.crop == 224
        assert len(known.classes) == 1000

    @pytest.mark.parametrize("text", ["nothing", "mobilenet_v1@", "@w.pth"])
    def test_what_is_none(self, text):
        with pytest.raises(ValueError, match="a slimmed network, imagenet, timm:NAME or NETWORK@"):
            open_trained(text)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"feature_share": 0.5}, "feature_share=0.5: there is no teacher"),
        ({"teacher": "x", "feature_share": 0.6}, "feature_share=0.6: with teacher_share=0.5 it is"),
        ({"teacher": "x", "teacher_share": 0.0}, "with teacher_share=0.0 nothing is learned"),
    ],
)
def test_shares_that_do_not_fit(values, reason):
    with pytest.raises(ValueError, match=reason):
        Recipe.of(values)
