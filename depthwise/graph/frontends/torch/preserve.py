"""A caller's network, left as it was found whatever is done with it in between."""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

Restore = Callable[[], None]
FOREIGN = ("torch", "numpy")  # whose objects look after themselves


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put every module of `net` in evaluation mode; in the end nothing of it has changed.

    Parameters, buffers, gradients, flags, hooks, modes and attributes come back as they were, and
    PyTorch's global state: what the network's own code did to them, interrupted or not, is undone.
    """
    with preserving(net):
        if any(module.training for module in net.modules()):
            net.eval()
        yield


@contextmanager
def preserving(net: nn.Module) -> Iterator[None]:
    """Put a network, and PyTorch's global state, back as they were."""
    restores = [*_remember_globals(), *_Memory().of_network(net)]
    try:
        yield
    finally:
        for restore in restores:
            restore()


def changes_with_mode(net: nn.Module) -> bool:
    """Tell whether eval() is the network's own code, which folds weights into others, say."""
    plain = nn.Module.train, nn.Module.eval
    return any((type(module).train, type(module).eval) != plain for module in net.modules())


class _Memory:
    """Remembers objects, each once, as functions that put them back."""

    def __init__(self):
        self._seen: dict[int, Any] = {}  # the objects too: an id is a name only while they live

    def of_network(self, net: nn.Module) -> Iterator[Restore]:
        modules = list(net.modules())
        parameters = {id(p) for p in net.parameters()} if not changes_with_mode(net) else set()
        for module in modules:
            yield from self._of(vars(module), parameters)
            yield _restore_kind(module)
        for tensor in (*net.parameters(), *net.buffers()):  # those of scripted modules are hidden
            yield from self._of(tensor, parameters)

    def _of(self, value: Any, unwritten: set[int]) -> Iterator[Restore]:
        """Remember a container and all in it, or a tensor, with its elements if they may change."""
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            yield from _remember_tensor(value, copied=id(value) not in unwritten)
        elif isinstance(value, np.ndarray):
            yield _restore_elements(value)
        elif isinstance(value, dict):
            yield _restore_mapping(value)
            for part in value.values():
                yield from self._of(part, unwritten)
        elif isinstance(value, list | deque | bytearray):
            yield _restore_sequence(value)
            for part in value:
                yield from self._of(part, unwritten)
        elif isinstance(value, set):
            yield _restore_set(value)
        elif isinstance(value, tuple):
            for part in value:
                yield from self._of(part, unwritten)
        if _is_plain_object(value):
            yield from self._of(vars(value), unwritten)


def _restore_kind(module: nn.Module) -> Restore:
    """Remember a module's class, which lazy ones change, and its mode, which scripted ones hide."""
    kind, training = type(module), module.training

    def restore() -> None:
        if type(module) is not kind:
            module.__class__ = kind
        if module.training != training:
            module.training = training

    return restore


def _is_plain_object(value: Any) -> bool:
    """Tell whether an object holds attributes of its own: what a network counts, say."""
    kind = type(value)
    return (
        isinstance(getattr(value, "__dict__", None), dict)
        and not isinstance(value, torch.Tensor | nn.Module | ModuleType)
        and not callable(value)
        and kind.__module__.partition(".")[0] not in FOREIGN
    )


def _restore_elements(value: np.ndarray) -> Restore:
    before = value.copy()

    def restore() -> None:
        if bytes(value) != bytes(before):
            value[...] = before

    return restore


def _restore_mapping(value: dict) -> Restore:
    before = list(value.items())
    kind: Any = (
        OrderedDict if isinstance(value, OrderedDict) else dict
    )  # a Counter's update would add

    def restore() -> None:
        if len(value) != len(before) or any(
            key is not old or part is not kept
            for (key, part), (old, kept) in zip(value.items(), before, strict=True)
        ):
            kind.clear(value)
            for key, part in before:
                kind.__setitem__(value, key, part)

    return restore


def _restore_sequence(value: list | deque | bytearray) -> Restore:
    before = list(value)

    def restore() -> None:
        if len(value) != len(before) or any(
            now is not old for now, old in zip(value, before, strict=True)
        ):
            value.clear()
            value.extend(before)

    return restore


def _restore_set(value: set) -> Restore:
    before = set(value)

    def restore() -> None:
        if value != before:
            value.clear()
            value.update(before)

    return restore


def _remember_tensor(tensor: torch.Tensor, copied: bool) -> Iterator[Restore]:
    """Remember where a tensor's elements lie, its gradient and whether it asks for one.

    While a network is exported its parameters are stand-ins, so that their elements stay.
    """
    if nn.parameter.is_lazy(tensor) or tensor.layout != torch.strided:
        return
    data, asked = tensor.detach(), tensor.requires_grad
    gradient = tensor.grad if tensor.is_leaf else None
    elements = data.clone() if copied else None

    def restore() -> None:
        if not _same_memory(tensor, data):
            tensor.data = data
        if elements is not None and not _equal(data, elements):
            data.copy_(elements)
        if tensor.is_leaf and tensor.requires_grad != asked:
            tensor.requires_grad_(asked)
        if tensor.is_leaf and tensor.grad is not gradient:
            tensor.grad = gradient

    yield restore


def _same_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether two tensors are the same elements, lying in the same order."""
    return (
        type(a.data) is type(b)
        and (a.shape, a.stride(), a.storage_offset()) == (b.shape, b.stride(), b.storage_offset())
        and torch._C._is_alias_of(a, b)  # type: ignore[attr-defined]
    )


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether two tensors hold the same; NaN is itself."""
    if a.is_meta:
        return True
    return torch.equal(a, b) or torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _remember_globals() -> Iterator[Restore]:
    """Remember the state of random numbers, and PyTorch's modes, that a network's code may set."""
    torch_state, numpy_state, python_state = (
        torch.get_rng_state(), np.random.get_state(), random.getstate()
    )  # fmt: skip
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()

    def restore() -> None:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)

    yield restore
