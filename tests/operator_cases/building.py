"""What the cases are built from."""

from torch import nn


class Function(nn.Module):
    """A function of tensors as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def scrambled(norm: nn.Module) -> nn.Module:
    """Give a normalisation statistics and an affine step that show where they are misused."""
    for tensor in [*norm.parameters(), *norm.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    return norm


def conv(*arguments, **named):
    return nn.Conv2d(*arguments, **named)


X = (2, 6, 9, 11)
