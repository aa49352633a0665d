"""Functions of each element, and arithmetic beyond the four operations."""

import torch
import torch.nn.functional as F
from torch import nn

from operator_cases.building import Function, X

CASES: dict[str, tuple[nn.Module, list[tuple[int, ...]]]] = {
    "logarithms and powers of two and ten": (
        Function(lambda x: (x.abs().log2(), x.abs().log10(), x.abs().log1p(),
                            x.expm1(), x.exp2(), 2.0**x)),
        [X],
    ),
    "angles": (
        Function(lambda x: (x.sin(), (100 * x).cos(), x.tan(), x.atan(), x.clamp(-1, 1).asin(),
                            x.clamp(-1, 1).acos(), torch.sinc(x), x.deg2rad(), x.rad2deg())),
        [X],
    ),
    "hyperbolic functions": (
        Function(lambda x: (x.sinh(), x.cosh(), x.asinh(), (x.abs() + 1).acosh(),
                            (x.tanh() / 2).atanh())),
        [X],
    ),
    "whole numbers and signs": (
        Function(lambda x: (x.floor(), x.ceil(), x.round(), torch.round(x, decimals=1),
                            torch.round(100 * x, decimals=-1), x.trunc(), x.frac(), x.sign())),
        [X],
    ),
    "shrinking activations": (
        Function(lambda x: (F.softsign(x), F.hardshrink(x), F.hardshrink(x, 0.2), F.softshrink(x),
                            F.softshrink(x, 0.2), F.tanhshrink(x), F.threshold(x, 0.1, -3.0))),
        [X],
    ),
    "exponential activations": (
        Function(lambda x: (F.celu(x), F.celu(x, 0.7), F.elu(x, 0.5), F.selu(x), F.logsigmoid(x),
                            torch.ops.aten.elu(x, 1.5, 0.7, 0.3), F.softplus(x, 2.0),
                            F.softplus(x, 0.5, 30), F.softplus(x, 2, 1), F.rrelu(x),
                            F.softmin(x, 1), F.hardtanh(x, -0.3, 0.4))),
        [X],
    ),
    "what is chosen": (
        Function(lambda x, y: (torch.xlogy(x.relu(), x.abs() + 0.1), torch.logaddexp(x, y),
                               torch.logaddexp(x, x), torch.heaviside(x.relu(), y),
                               torch.where(x > 0, x, float("nan")).nan_to_num(0.5),
                               torch.where(x > 0, x, float("inf")).nan_to_num(0.5, 2.0),
                               torch.where(x > 0, x, -float("inf")).clamp(-9).nan_to_num())),
        [X, (2, 6, 1, 1)],
    ),
    "probabilities": (
        Function(lambda x: (x.sigmoid().logit(), x.logit(eps=0.1), torch.erfc(3 * x),
                            torch.special.expit(x))),
        [X],
    ),
    "powers and remainders": (
        Function(lambda x, y: (x.abs() ** y, 1.5**x, x % 1.0, x % y, x.fmod(y), x // 0.5, x // y,
                               torch.div(x, y, rounding_mode="floor"),
                               torch.div(x, y, rounding_mode="trunc"), 3.0 % y)),
        [X, (2, 6, 1, 1)],
    ),
    "angles and lengths of two": (
        Function(lambda x, y: (torch.atan2(x, y), torch.atan2(y, x), torch.hypot(x, y),
                               torch.lerp(x, y, 0.3), torch.lerp(x, y, 0.8),
                               torch.lerp(x, y.expand_as(x), x.sigmoid()))),
        [X, (2, 6, 1, 11)],
    ),
}  # fmt: skip
