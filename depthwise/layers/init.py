"""The initial weights that all our networks start from."""

from torch import nn


class ZeroConv2d(nn.Conv2d):
    """A convolution that starts at zero, bias too, and that `initialize` leaves there."""

    def reset_parameters(self) -> None:
        """Set the weights and the bias to zero."""
        zero(self)


class ZeroLinear(nn.Linear):
    """A linear layer that starts at zero, bias too, and that `initialize` leaves there."""

    def reset_parameters(self) -> None:
        """Set the weights and the bias to zero."""
        zero(self)


def zero(module: nn.Module) -> None:
    """Set every parameter of `module` to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def initialize(net: nn.Module) -> None:
    """Draw convolutions from He's normal distribution by fan out, linear layers from N(0, 0.01²).

    He et al., arXiv:1502.01852, section 2.2; normalisation starts as the identity, biases at 0.
    Predictors of offsets (ZeroConv2d, ZeroLinear) start at 0.
    """
    for module in net.modules():
        match module:
            case ZeroConv2d() | ZeroLinear():
                zero(module)
            case nn.Conv2d() | nn.ConvTranspose2d():
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            case nn.Linear():
                nn.init.normal_(module.weight, std=0.01)
            case _:
                continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
