"""Two processes train as one does: with the same images a step, the same losses and weights."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from test_training import NETWORK, RECIPE, StopsAt, halves, weights
from torch import nn

from depthwise.cli import processes
from depthwise.training import Recipe, pace, resume, train
from depthwise.training.distributed import LostPeer, Replicas, World, joined
from depthwise.training.divergence import Diverged, finite_mean
from depthwise.training.optimizer import train_mode

ALONE = World(0, 1, torch.device("cpu"))


@dataclass
class Watches(StopsAt):
    """Keeps the losses, and how many steps were to be done."""

    step_number: int = -1
    losses: list[float] = field(default_factory=list)
    decisions: list[tuple[int, int]] = field(default_factory=list)

    def step(self, progress, loss, pace):
        super().step(progress, loss, pace)
        self.losses.append(loss)
        self.decisions = [tuple(each) for each in progress.decisions]


def losses(folder, onlooker=None, recipe=RECIPE):
    onlooker = onlooker or Watches()
    train(NETWORK, halves(), recipe, directory=folder, onlooker=onlooker)
    return onlooker


class ActiveNorm(nn.BatchNorm2d):
    """A BatchNorm that does more, as timm's do."""

    def forward(self, x):
        return F.relu(super().forward(x), inplace=True)


class StochasticDepth(nn.Module):
    """A path that some images of a batch do not take, as torchvision and timm draw them."""

    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        if not self.training:
            return x
        kept = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.noise)
        return x * kept / (1 - self.noise)


class Varied(nn.Module):
    """All that looks at a whole batch, or draws for each image of it; and what learns nothing."""

    def __init__(self, noise):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), ActiveNorm(8))
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.path = StochasticDepth(noise)
        self.idle = nn.Linear(3, 3)
        self.head = nn.Sequential(
            nn.Dropout2d(noise), nn.Flatten(), nn.BatchNorm1d(128, affine=False),
            nn.Dropout(noise, inplace=True), nn.Linear(128, 3),
        )  # fmt: skip

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.path(self.block(x)))


def varied(world, parts=1, frozen=(), noise=0.3):
    """Return the losses and the tensors of a network after some steps of 16 images."""
    net, images = Varied(noise), torch.Generator().manual_seed(1)
    replicas = Replicas(net, world)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9)
    found = []
    for step in range(5):
        net.stem.requires_grad_(step not in frozen)
        train_mode(net)
        pixels = torch.randn(16, 3, 8, 8, generator=images)
        labels = torch.randint(3, (16,), generator=images)
        torch.manual_seed(step)
        total = 0.0
        for part in range(parts):
            # a part of one process is what the same parts of two are together
            rows = torch.arange(16).view(2, parts, -1)[:, part].reshape(-1)
            own = rows[world.share(len(rows))]
            loss = F.cross_entropy(replicas(pixels[own], part == parts - 1), labels[own]) / parts
            loss.backward()
            total += world.mean(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        found.append(total)
    return found, net.state_dict()


VARIED = {"plain": {}, "parts": {"parts": 2, "noise": 0.0}, "frozen": {"frozen": (0, 1, 3)}}


def raised(function):
    try:
        function()
    except (ValueError, Diverged, LostPeer) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def infinite_in(rank, world):
    """Have a loss that is infinite in one process, for the second layer makes it so."""
    net = nn.Sequential(nn.Identity(), nn.Hardswish(), nn.Identity())
    loss, image = (torch.inf, torch.inf) if world.rank == rank else (1.0, 1.0)
    return finite_mean(loss, net[1:], torch.full((1, 3, 2, 2), image), 7, world)


def averaged(world):
    """Return the gradient of what no replicas compute: that of 1 and of 2 images."""
    layer = nn.Linear(1, 1, bias=False)
    layer(torch.full((1, 1), world.rank + 1.0)).sum().backward()
    world.average(layer)
    return layer.weight.grad.item()


def work(rank, port, folder):
    """Do what is compared, as one of two processes."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    found = {"losses": losses(folder / "run").losses}
    with joined() as world:
        found |= {name: varied(world, **options) for name, options in VARIED.items()}
        found["infinite"] = raised(lambda: infinite_in(1, world))
        found["averaged"] = averaged(world)
    found["diverged"] = raised(
        lambda: losses(folder / "wild", recipe=RECIPE.model_copy(update={"learning_rate": 1e30}))
    )
    stops = Watches(step_number=5 if rank == 1 else -1)
    found["stopped"] = len(losses(folder / "stopped", stops).losses)
    resume(folder / "alone", halves())
    timed = RECIPE.model_copy(update={"epochs": 1e6, "time": 1.0, "precision": "auto"})
    pace.time = SimpleNamespace(perf_counter=lambda: (1 + rank) * time.perf_counter())
    onlooker = losses(folder / "timed", recipe=timed)
    pace.time = time
    found["timed"] = (len(onlooker.losses), onlooker.decisions)
    found["odd"] = raised(lambda: losses(folder / "odd", recipe=Recipe(batch=9)))
    compiling = RECIPE.model_copy(update={"compile": True})
    found["compiled"] = raised(lambda: losses(folder / "odd", recipe=compiling))
    found["taken"] = raised(lambda: losses(folder / "run"))
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return what each of two processes found, and the folder of their runs."""
    folder = tmp_path_factory.mktemp("two")
    torch.set_num_threads(1)
    losses(folder / "alone", Watches(step_number=5))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, (port, folder), 2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)], folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Return the losses of one process, and the folder of its run."""
    folder = tmp_path_factory.mktemp("one") / "run"
    torch.set_num_threads(1)
    return losses(folder).losses, folder


def assert_close(one, other, tolerance=1e-4):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=tolerance, atol=tolerance)


def test_two_processes_have_the_losses_and_the_weights_of_one(one, two):
    (first, second), folder = two
    assert first["losses"] == second["losses"]
    assert len(first["losses"]) == 24
    assert first["losses"] == pytest.approx(one[0], abs=1e-5)
    assert_close(weights(one[1]), weights(folder / "run"))


@pytest.mark.parametrize("name", VARIED)
def test_what_looks_at_a_batch_sees_the_whole_one(two, name):
    (first, second), _ = two
    wanted, tensors = varied(ALONE, **VARIED[name])
    for found, own in (first[name], second[name]):
        assert found == pytest.approx(wanted, abs=1e-5)
        assert_close(tensors, own, 1e-5)


def test_a_loss_that_is_no_number_stops_all(two):
    for found in two[0]:
        assert found["infinite"].startswith(
            "Diverged: at step 7 the loss became inf: first in what 1 returns"
        )
        assert "at step" in found["diverged"]


def test_one_process_that_is_asked_to_stop_stops_all_and_one_goes_on(one, two):
    (first, second), folder = two
    assert first["stopped"] == second["stopped"] == 5
    resume(folder / "stopped", halves())
    assert_close(weights(one[1]), weights(folder / "stopped"))


def test_two_go_on_with_what_one_began(one, two):
    assert_close(weights(one[1]), weights(two[1] / "alone"))


def test_time_is_the_first_process_s(two):
    (first, second), _ = two
    assert first["timed"] == second["timed"]
    steps, decisions = first["timed"]
    assert decisions[-1][1] == steps
    assert all(one < other for one, other in pairwise(step for step, _ in decisions))


def test_a_batch_that_cannot_be_divided(two):
    for found in two[0]:
        assert found["odd"] == (
            "ValueError: batches of 9 images cannot be divided evenly among 2 processes: for a new "
            "run take --batch 8, or else another number of processes: 1, 3, 9"
        )


def test_what_the_loss_learns_is_averaged(two):
    assert [found["averaged"] for found in two[0]] == [1.5, 1.5]


def test_compiling_is_refused(two):
    assert all(found["compiled"].startswith("ValueError: compile is for one") for found in two[0])


def test_the_first_process_says_what_is_wrong(two):
    first, second = (found["taken"] for found in two[0])
    assert first.startswith("ValueError: ")
    assert "holds a run already" in first
    assert second == "LostPeer: the first process of this training failed, and says why"


def team(*tasks):
    command = [sys.executable, Path(__file__).with_name("team.py"), *tasks]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, start_new_session=True)


@pytest.mark.parametrize(
    ("tasks", "code", "said"),
    [
        (["ends", "ends"], 0, ""),
        (["fails", "fails"], 2, "it is broken\n"),
        (["loses", "fails"], 2, "1 of 2 prints\nit is broken\n"),
        (["loses", "dies", "loses"], 137, "depthwise: process 1 of 0 to 2 was killed by SIGKILL, "
         "as is done where memory runs out; go on so\n"),
        (["loses", "loses"], 70, ""),
    ],
)  # fmt: skip
def test_the_first_that_failed_by_itself_is_what_is_said(tasks, code, said):
    output, errors = (started := team(*tasks)).communicate(timeout=60)
    assert (started.returncode, errors) == (code, said)
    assert output == f"0 of {len(tasks)} prints\n"


def test_the_others_do_not_outlive_one_that_failed(monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.2)
    group = processes._Team()
    for task in ("hangs", "fails"):
        monkeypatch.setattr(sys, "orig_argv", ["", str(Path(__file__).with_name("team.py")), task])
        with open(os.devnull, "w") as words:
            group.start({"RANK": "0", "WORLD_SIZE": "2"}, words)
    group.wait()
    assert [process.returncode for process in group.processes] == [-signal.SIGKILL, 2]
    assert group.failed == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_go_to_all(number):
    started = team("stops", "stops")
    assert started.stdout.readline() == "0 of 2 prints\n"
    assert started.stdout.readline() == "ready\n"
    started.send_signal(number)
    output, errors = started.communicate(timeout=60)
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    assert (output, errors) == ("saved\n", f"depthwise: {word}\n")
    assert started.returncode == 128 + number


def images_in(folder):
    """Write the two halves' images to folders of classes."""
    from PIL import Image

    made = halves()
    for name, part in (("train", made.train), ("validation", made.validation)):
        for index, label in enumerate(part.labels):
            place = folder / name / made.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part.images.pixels[index]).save(place / f"{index:03}.png")
    return folder


def command(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = [sys.executable, "-m", "depthwise", "train", *map(str, arguments)]
    return subprocess.Popen(
        whole, stdout=-1, stderr=-1, text=True, env=environment, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_command_line_is_stopped_and_goes_on(tmp_path, number):
    images = images_in(tmp_path / "images")
    common = [
        images, "--network", NETWORK, "--batch", 8, "--epochs", 40, "--seed", 1, "--precision",
        "fp32", "--no-mirror",
    ]  # fmt: skip
    _, errors = command(*common, "--out", tmp_path / "one").communicate(timeout=120)
    assert "epoch 40:" in errors
    two = command(*common, "--out", tmp_path / "two", "--processes", 2)
    while "epoch 3:" not in two.stderr.readline():
        pass
    two.send_signal(number)  # where it kills what started them, they stop by themselves
    output, errors = two.communicate(timeout=60)
    assert not output
    if number == signal.SIGINT:
        assert two.returncode == 130
        assert errors.endswith(
            f"depthwise: interrupted; go on with: depthwise train --resume {tmp_path / 'two'}\n"
        )
    while not (tmp_path / "two" / "state.safetensors").is_file():
        time.sleep(0.1)
    assert not (tmp_path / "two" / "result.json").exists()
    gone_on = command("--resume", tmp_path / "two", "--processes", 2)
    output, errors = gone_on.communicate(timeout=120)
    assert gone_on.returncode == 0, errors
    assert output.startswith(f"{tmp_path / 'two'}: validation accuracy")
    assert output.count("\n") == 1
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"), 1e-3)


@pytest.mark.slow
def test_two_workers_of_ray_train(one, tmp_path):
    pytest.importorskip("ray")
    script = Path(__file__).with_name("ray_training.py")
    environment = os.environ | {"RAY_TRAIN_V2_ENABLED": "1", "RAY_DEDUP_LOGS": "0"}
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=300, env=environment)
    assert_close(weights(one[1]), weights(tmp_path / "run"))
