"""A generator of images: transposed convolutions, and one that looks where it wants to."""

from torch import nn

from depthwise.layers import DeformConv


class Generator(nn.Sequential):
    """Enlarges (N, 5, H, W) to (N, 3, 4H, 4W); its channels fill no vector."""

    def __init__(self):
        super().__init__(
            nn.ConvTranspose2d(5, 17, 4, 2, 1),
            nn.BatchNorm2d(17),
            nn.ReLU(),
            DeformConv(17, 9),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(9, 3, 3, 2, 1, 1),
            nn.Tanh(),
        )
        for parameter in self[3].parameters():  # offsets that lead away from the grid
            parameter.data.normal_(0, 0.2)
