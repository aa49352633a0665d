"""What a network does with a whole batch, done by processes that have a part of it each.

`WholeBatch` replaces the functions whose results depend on all images of a batch, wherever a
network calls them: batch normalisation takes its statistics over the parts of all processes, and
dropout draws what one process would draw for all and keeps its own rows. So several processes
compute what one computes with the whole batch. PyTorch's `nn.SyncBatchNorm` refuses CPUs; and
putting other modules in place would lose what subclasses of BatchNorm do besides, as timm's with
their activations.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode


class WholeBatch(TorchFunctionMode):
    """A context in which a network that learns sees its part as part of a whole batch.

    All processes must call the same functions in the same order, on parts of one size, and draw
    from random generators in one state.
    """

    def __init__(self, rank: int, size: int):
        """Be process `rank` of `size`."""
        super().__init__()
        self._rank, self._size = rank, size
        drops = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
        self._replaced: dict[Any, Callable[..., Tensor]] = {
            F.batch_norm: self._batch_norm,
            Tensor.bernoulli_: self._bernoulli,
            **{function: partial(self._dropout, function) for function in drops},
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        """Call what stands in a function's place, or the function itself."""
        call: Any = self._replaced.get(func, func)
        return call(*args, **kwargs or {})

    def _batch_norm(  # noqa: PLR0913, PLR0917  (the signature is PyTorch's)
        self, input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
        weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
        momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, 0.0, eps)
        if input.is_cuda:
            return SyncBatchNorm.apply(  # type: ignore[return-value]
                input, weight, bias, running_mean, running_var, eps, momentum, dist.group.WORLD,
                self._size,
            )  # fmt: skip
        normed, mean, var = _WholeBatchNorm.apply(  # type: ignore[misc]
            input, weight, bias, self._size, eps
        )
        count = self._size * input.numel() // input.shape[1]
        if count == 1:
            raise ValueError(f"BatchNorm needs more than one value a channel, found {input.shape}")
        with torch.no_grad():
            if running_mean is not None:
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            if running_var is not None:
                running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
        return normed

    def _dropout(
        self, function: Callable[..., Tensor], input: Tensor, p: float = 0.5,
        training: bool = True, inplace: bool = False,
    ) -> Tensor:  # fmt: skip
        if not training:
            return input
        kept = self._own(function(input.new_ones(self._whole(input)), p))
        return input.mul_(kept) if inplace else input * kept

    def _bernoulli(self, tensor: Tensor, p: Any = 0.5, **options: Any) -> Tensor:
        """Draw one number a row, as stochastic depth does; one for all images is left as it is."""
        if tensor.ndim == 0 or len(tensor) == 1 or isinstance(p, Tensor):
            return tensor.bernoulli_(p, **options)
        return tensor.copy_(
            self._own(tensor.new_empty(self._whole(tensor)).bernoulli_(p, **options))
        )

    def _whole(self, part: Tensor) -> tuple[int, ...]:
        return self._size * len(part), *part.shape[1:]

    def _own(self, whole: Tensor) -> Tensor:
        return whole.chunk(self._size)[self._rank]


class _WholeBatchNorm(Function):
    """Batch normalisation by mean and variance over the parts of all processes.

    Gradients of inputs are those of the sum of all processes' losses; those of the weights are
    this process's, as of all other weights: both as `nn.SyncBatchNorm` has them.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, size: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the result, the mean and the biased variance, (C,)."""
        wide = _wide(input)
        own = torch.stack(torch.var_mean(wide, _others(wide), correction=0))
        every = [torch.empty_like(own) for _ in range(size)]
        dist.all_gather(every, own)
        variances, means = torch.stack(every).unbind(1)
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)
        scale = (var + eps).rsqrt()
        ctx.save_for_backward(input, weight, mean, scale)
        ctx.size = size
        ctx.mark_non_differentiable(mean, var)
        slope = scale if weight is None else scale * weight
        result = (wide - _along(mean, wide)) * _along(slope, wide)
        if bias is not None:
            result = result + _along(bias, wide)
        return result.to(input.dtype), mean, var

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, grad: Tensor, *_: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        """Return the gradients: of the input, what changes neither mean nor deviation."""
        input, weight, mean, scale = ctx.saved_tensors
        wide, grad = _wide(input), _wide(grad)
        normed = (wide - _along(mean, wide)) * _along(scale, wide)
        sums = torch.stack([grad.sum(_others(grad)), (grad * normed).sum(_others(grad))])
        of_bias, of_weight = sums.clone()
        dist.all_reduce(sums)
        lift, tilt = sums / (ctx.size * input.numel() // input.shape[1])
        left = grad - _along(lift, grad) - normed * _along(tilt, grad)
        slope = scale if weight is None else scale * weight
        of_input = (left * _along(slope, grad)).to(input.dtype)
        needed = ctx.needs_input_grad
        return (
            of_input, of_weight if needed[1] else None, of_bias if needed[2] else None, None, None,
        )  # fmt: skip


def _wide(tensor: Tensor) -> Tensor:
    """Return numbers in float32 or wider, in which they are added up."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _others(tensor: Tensor) -> list[int]:
    """Return the axes that are not the channels'."""
    return [axis for axis in range(tensor.ndim) if axis != 1]


def _along(channels: Tensor, tensor: Tensor) -> Tensor:
    """Return numbers of channels as a tensor's channels are: (1, C, 1, 1)."""
    return channels.view(1, -1, *[1] * (tensor.ndim - 2))
