"""What most networks use: convolutions, normalisation, pooling, activations, arithmetic."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from operator_cases.building import Function, X, conv, scrambled

# name -> (network, input shapes): together they use every operator of the graph
CASES = {
    "conv": (conv(6, 4, 3), [X]),
    "conv strided, dilated, padded": (conv(6, 4, (3, 5), (2, 1), (1, 4), (1, 2)), [X]),
    "conv grouped": (conv(6, 9, 3, groups=3), [X]),
    "conv depthwise": (conv(6, 12, 3, groups=6, padding=1, bias=False), [X]),
    "conv same": (conv(6, 4, (4, 3), padding="same", dilation=(1, 2)), [X]),
    "conv padded unevenly": (nn.Sequential(nn.ZeroPad2d((1, 3, 0, 2)), conv(6, 4, 3, 2)), [X]),
    "depthwise padded unevenly": (
        nn.Sequential(nn.ZeroPad2d((1, 3, 0, 2)), conv(6, 6, 5, groups=6)), [X],
    ),
    "conv valid": (conv(6, 4, 2, padding="valid"), [X]),
    "conv reflect": (conv(6, 4, 3, padding=2, padding_mode="reflect"), [X]),
    "conv circular": (conv(6, 4, 3, padding=2, padding_mode="circular"), [X]),
    "conv replicate": (conv(6, 4, 3, padding=2, padding_mode="replicate"), [X]),
    "conv1d": (nn.Conv1d(6, 4, 3, 2, 1), [(2, 6, 9)]),
    "transposed k3 s2": (nn.ConvTranspose2d(6, 4, 3, 2), [X]),
    "transposed k4 s2 p1": (nn.ConvTranspose2d(6, 4, 4, 2, 1), [X]),
    "transposed output_padding": (nn.ConvTranspose2d(6, 4, 3, 3, 0, 2), [X]),
    "transposed grouped, dilated": (nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, 2, dilation=2), [X]),
    "linear": (nn.Linear(11, 5), [X]),
    "matmul": (Function(lambda a, b: a @ b), [(2, 3, 4), (2, 4, 5)]),
    "batch norm": (scrambled(nn.BatchNorm2d(6, 1e-3)), [X]),
    "batch norm without affine": (nn.BatchNorm2d(6, affine=False), [X]),
    "batch norm by the batch": (
        nn.Sequential(nn.BatchNorm2d(6, track_running_stats=False), nn.Conv2d(6, 4, 1),
                      nn.BatchNorm2d(4, affine=False, track_running_stats=False)), [X],
    ),
    "batch norm 1d": (scrambled(nn.BatchNorm1d(6)), [(2, 6)]),
    "group norm": (scrambled(nn.GroupNorm(3, 6)), [X]),
    "group norm without affine": (nn.GroupNorm(3, 6, affine=False), [X]),
    "instance norm": (scrambled(nn.InstanceNorm2d(6, affine=True)), [X]),
    "instance norm without affine": (nn.InstanceNorm2d(6), [X]),
    "layer norm": (scrambled(nn.LayerNorm((9, 11))), [X]),
    "local response norm": (nn.LocalResponseNorm(3, alpha=0.5), [X]),
    "max pool": (nn.MaxPool2d(3, 2, 1), [X]),
    "max pool dilated, ceil": (nn.MaxPool2d((2, 3), (2, 3), (1, 1), (2, 1), ceil_mode=True), [X]),
    "avg pool": (nn.AvgPool2d(3, 2, 1), [X]),
    "avg pool ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), [X]),
    "avg pool ceil, inside": (nn.AvgPool2d(3, 2, 1, True, count_include_pad=False), [X]),
    "avg pool divisor": (nn.AvgPool2d(2, divisor_override=3), [X]),
    "adaptive avg pool": (nn.AdaptiveAvgPool2d((2, 3)), [X]),
    "adaptive avg pool enlarges": (nn.AdaptiveAvgPool2d((12, 7)), [X]),
    "adaptive max pool": (nn.AdaptiveMaxPool2d((2, 3)), [X]),
    "mean": (Function(lambda x: x.mean((2, 3))), [X]),
    "mean of all": (Function(lambda x: x.mean()), [X]),
    "sum": (Function(lambda x: x.sum(1, keepdim=True)), [X]),
    "max and min": (Function(lambda x: (x.amax((2, 3)), x.amin(1))), [X]),
    "activations": (
        Function(
            lambda x: (
                F.relu(x), F.relu6(4 * x), F.leaky_relu(x, 0.2), F.hardswish(3 * x),
                F.hardsigmoid(3 * x), F.sigmoid(x), F.silu(x), F.gelu(x),
                F.gelu(x, approximate="tanh"), F.tanh(x), F.elu(x, 0.7), x.clamp(-0.5, 0.7),
                F.softplus(x), F.mish(x), F.hardtanh(x), -x, x.abs(), x.exp(), x.clamp(min=0.1),
                x.clamp(max=0.1),
            )
        ),
        [X],
    ),
    "roots and powers": (
        Function(
            lambda x: (x.abs().sqrt(), (x * x + 1).log(), (x * x + 1).rsqrt(), x**3, x.erf())
        ),
        [X],
    ),
    "prelu": (nn.PReLU(6, 0.3), [X]),
    "arithmetic": (
        Function(lambda x, y: (x + y, x - y, x * y, x / (y * y + 1), 2 * x + 1, 1 - x,
                               torch.maximum(x, y), torch.minimum(x, y), torch.add(x, y, alpha=3))),
        [X, (2, 6, 1, 1)],
    ),
    "products and quotients added": (
        Function(lambda x, y: (torch.addcmul(x, y, y, value=0.5), x.addcmul(x, y),
                               torch.addcdiv(x, y, y * y + 1, value=2), (x * x + 1).reciprocal())),
        [X, (2, 6, 1, 1)],
    ),
    "variance": (
        Function(lambda x: (x.var(), x.var(1), x.var((2, 3), keepdim=True, unbiased=False),
                            torch.var(x, 3, correction=2), x.std(1, keepdim=True), x.std(),
                            *torch.var_mean(x, (2, 3)))),
        [X],
    ),
    "Euclidean norm": (
        Function(lambda x: (torch.linalg.vector_norm(x), x.norm(dim=(2, 3), keepdim=True),
                            F.normalize(x, dim=1))),
        [X],
    ),
    "log softmax": (Function(lambda x: F.log_softmax(100 * x, 1)), [X]),
    "gates": (Function(lambda x: (F.glu(x, 1), F.selu(x))), [X]),
    "rolled and repeated": (
        Function(lambda x: (x.roll((1, -2), (2, 3)), x.roll(3, 1), x.repeat(1, 2, 1, 3),
                            x.repeat(2, 1, 1, 1, 1), x.swapaxes(1, 3))),
        [X],
    ),
    "softmax": (nn.Softmax(1), [X]),
    "concat": (Function(lambda x, y: torch.cat((x, y), 1)), [X, X]),
    "gate, sum and activation": (
        Function(lambda x, y: F.relu(x * x.mean((2, 3), True).sigmoid() + y)), [X, X],
    ),
    "dense": (
        Function(lambda x, y: (torch.cat((x.abs(), y), 1).relu(), torch.cat((x.abs(), y, x), 1))),
        [X, X],
    ),
    "stack": (Function(lambda x, y: torch.stack((x, y), 2)), [X, X]),
    "slices": (
        Function(lambda x: (x[:, 1:5:2], x[..., -4:], x[:, 2], *x.split(4, 1), *x.chunk(4, 3),
                            *x.split([1, 5], 1), *x.unbind(2)[:2], x.narrow(1, 2, 3))),
        [X],
    ),
    "pad": (
        Function(lambda x: (F.pad(x, (1, 2, 3, 0)), F.pad(x, (-1, 2, 0, -3), value=2.0),
                            F.pad(x, (1, 2, 3, 0), mode="reflect"))),
        [X],
    ),
    "resize nearest": (
        Function(lambda x: (F.interpolate(x, scale_factor=2.0), F.interpolate(x, (5, 17)),
                            F.interpolate(x, scale_factor=1.7))),
        [X],
    ),
    "resize bilinear": (
        Function(lambda x: (
            F.interpolate(x, scale_factor=2.0, mode="bilinear"),
            F.interpolate(x, (5, 17), mode="bilinear"),
            F.interpolate(x, (5, 17), mode="bilinear", align_corners=True),
            F.interpolate(x, scale_factor=1.7, mode="bilinear"),
        )),
        [X],
    ),
    "shapes": (
        Function(lambda x: (x.flatten(1), x.view(2, 3, 2, -1), x.permute(0, 2, 3, 1),
                            x.transpose(1, 3), x.unsqueeze(1).squeeze(1),
                            x[:, :1].expand(2, 4, 9, 11), x.unflatten(1, (2, -1)))),
        [X],
    ),
    "shuffles": (nn.Sequential(nn.ChannelShuffle(3), conv(6, 8, 1), nn.PixelShuffle(2)), [X]),
    "unshuffle": (nn.PixelUnshuffle(3), [(2, 6, 9, 12)]),
    "dropout": (nn.Dropout(0.5), [X]),
    "deformable": (
        Function(lambda x, w, o: deform_conv2d(x, o, w, padding=1)),
        [X, (4, 6, 3, 3), (2, 18, 9, 11)],
    ),
    "deformable, modulated, grouped": (
        Function(lambda x, w, o, m: deform_conv2d(x, 3 * o, w, None, 2, (2, 1), (2, 1), m)),
        [X, (4, 3, 3, 3), (2, 36, 5, 6), (2, 18, 5, 6)],
    ),
}  # fmt: skip
