"""Several processes that train one network: each learns from its part of every batch.

`joined` gives the world that a process is in. One process alone is a world of one, in which
nothing is sent, so that the loop and all around it are the same for one process and for many.
"""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from depthwise.errors import DepthwiseError
from depthwise.training.whole_batch import WholeBatch

PATIENCE = timedelta(days=30)  # of what waits while the first process judges or decodes

Answer = TypeVar("Answer")


class LostPeer(DepthwiseError):  # noqa: N818
    """Another process of the training failed, ended or cannot be reached; it says why itself."""


@dataclass(frozen=True, eq=False)
class World:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: Which of them this is, counted from 0. The first judges, writes and decides.
        size: How many there are.
        device: What this one computes on.
        words: The group in which numbers and decisions are sent, between CPUs; None in a world of
            one. Gradients take the default group: NCCL between GPUs.
    """

    rank: int
    size: int
    device: torch.device
    words: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that judges, writes and decides."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Return which part of each batch this process learns from.

        Raises ValueError for a batch that cannot be divided evenly.
        """
        if batch % self.size:
            lower = batch // self.size * self.size
            fitting = [str(each) for each in range(1, batch + 1) if batch % each == 0]
            raise ValueError(
                f"batches of {batch} images cannot be divided evenly among {self.size} processes: "
                f"for a new run take --batch {lower or self.size}, or else another number of "
                f"processes: {', '.join(fitting[:8])}"
            )
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def meet(self) -> None:
        """Wait until every process is here, however long one decodes."""
        if self.size > 1:
            dist.barrier(self.words)

    def tell(self, function: Callable[[], Answer]) -> Answer:
        """Have the first process call a function; return in every process what it returned.

        Raises what the function raises there, and LostPeer in the others.
        """
        if self.size == 1:
            return function()
        said: list[Any] = [None, False]
        failure: Exception | None = None
        if self.leads:
            try:
                said = [function(), True]
            except Exception as error:
                failure = error
        dist.broadcast_object_list(said, 0, self.words)
        if failure is not None:
            raise failure
        if not said[1]:
            raise LostPeer("the first process of this training failed, and says why")
        return said[0]

    def agree(self, *numbers: float) -> list[float]:
        """Return the numbers of the first process, in every process."""
        if self.size == 1:
            return list(numbers)
        sent = torch.tensor(numbers, dtype=torch.float64)
        dist.broadcast(sent, 0, self.words)
        return sent.tolist()

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is set in one process or more."""
        if self.size == 1:
            return flag
        sent = torch.tensor(int(flag))
        dist.all_reduce(sent, dist.ReduceOp.MAX, self.words)
        return bool(sent)

    def mean(self, number: float) -> float:
        """Return the mean of each process's number."""
        if self.size == 1:
            return number
        sent = torch.tensor(number, dtype=torch.float64)
        dist.all_reduce(sent, group=self.words)
        return float(sent) / self.size

    def average(self, module: nn.Module) -> None:
        """Average the gradients of what no `Replicas` computes."""
        if self.size > 1:
            for parameter in module.parameters():
                assert parameter.grad is not None
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.size

    def first(self, sentence: str) -> str:
        """Return the first sentence that is not empty, in the order of ranks; in every process."""
        if self.size == 1:
            return sentence
        said: list[Any] = [""] * self.size
        dist.all_gather_object(said, sentence, self.words)
        return next((each for each in said if each), "")


class Replicas:
    """A network of which every process of a world has a copy, and all copies stay the same.

    Attributes:
        world: The processes.
    """

    def __init__(self, net: nn.Module, world: World, alone: Callable[[Tensor], Any] | None = None):
        """Take what computes the network in a world of one: itself, or what compiles it."""
        self.world, self._net, self._alone = world, net, alone or net
        self._model: Any = net
        self._learning: list[bool] = []  # which parameters `_model` was made for
        self._whole = WholeBatch(world.rank, world.size)

    def __call__(self, images: Tensor, is_last: bool = True) -> Any:
        """Return what the network says of this process's images.

        Args:
            images: A part of this process's share of a batch.
            is_last: Whether gradients are averaged over the processes when they have been computed,
                those of the parts before together with those of this one.
        """
        if self.world.size == 1:
            return self._alone(images)
        learning = [each.requires_grad for each in self._net.parameters()]
        if learning != self._learning:
            self._model, self._learning = self._averaging(images), learning
        with self._whole, nullcontext() if is_last else self._model.no_sync():
            return self._model(images)

    def _averaging(self, images: Tensor) -> DistributedDataParallel:
        """Return the network, its gradients averaged; its weights are the first process's."""
        self._model = self._net  # the one before averages until it is gone
        device = self.world.device
        return DistributedDataParallel(
            self._net, [device.index] if device.type == "cuda" else None,
            find_unused_parameters=_has_idle_parameters(self._net, images),
        )  # fmt: skip


def _has_idle_parameters(net: nn.Module, images: Tensor) -> bool:
    """Tell whether some parameters learn nothing from images, for the scores do not need them."""
    learning = [each for each in net.parameters() if each.requires_grad]
    modes = {module: module.training for module in net.modules()}
    total = net.eval()(images).sum()
    found = torch.autograd.grad(total, learning, allow_unused=True)
    for module, training in modes.items():
        module.training = training
    return any(each is None for each in found)


@contextmanager
def joined() -> Iterator[World]:
    """Give the world of this process, by the environment that torchrun and its like leave.

    A group of processes that exists already, as Ray Train's, is taken.

    Raises:
        ValueError: A variable is missing, or there is no GPU for this process.
        LostPeer: Another process ended, or cannot be reached.
    """
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(0, 1, _device())
        return
    try:
        device = _device()
        if not dist.is_initialized():
            _check_environment()
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(_leave)  # another training may follow in the same processes
        words = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield World(dist.get_rank(), dist.get_world_size(), device, words)
        dist.destroy_process_group(words)
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        said = str(error).splitlines()[0]
        raise LostPeer(f"another process of this training ended or is not there: {said}") from error


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _check_environment() -> None:
    missing = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} - os.environ.keys()
    if missing:
        raise ValueError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that several processes train together, "
            f"but {', '.join(sorted(missing))} is not set: start them by torchrun, or by "
            "depthwise train --processes"
        )


def _device() -> torch.device:
    """Return the device of this process: a GPU of its own, or a CPU where there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if place >= torch.cuda.device_count():
        raise ValueError(
            f"{place + 1} processes on a machine with {torch.cuda.device_count()} GPUs: each needs "
            "one of its own; to train on CPUs, hide them by CUDA_VISIBLE_DEVICES="
        )
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


def _is_lost(error: RuntimeError) -> bool:
    said = str(error).lower()
    return isinstance(error, dist.DistError) or (
        "gloo" in said and any(word in said for word in ("peer", "pipe", "timed out", "connect"))
    )
