"""More operators, as in ops: recurrent layers, resampled axes, images sampled at places."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Resample:
    """Inputs x, weights (sum of counts): one axis in another size, each place a sum of neighbours.

    Position i is the sum of counts[i] elements of x from first[i] on, each times the next of the
    weights, which follow each other position by position.
    """

    axis: int
    first: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class GridSample:
    """Inputs x (N, C, H, W), grid (N, H', W', 2) of (x, y), where the image reaches from -1 to 1.

    With `align_corners` -1 and 1 are the centres of the outermost pixels, else their outer edges.
    Outside of the image are zeros, the border's pixels, or the image mirrored, at the centres or
    edges that are -1 and 1. Bicubic weights are Keys' with a = -0.75.
    """

    mode: Literal["bilinear", "nearest", "bicubic"]
    outside: Literal["zeros", "border", "reflection"]
    align_corners: bool


@dataclass(frozen=True)
class Recurrent:
    """Inputs x (T, N, C), weight_ih (G · H, C), weight_hh (G · H, P), bias_ih, bias_hh (G · H),
    h (N, P), and for lstm c (N, H), [weight_hr (P, H)]; output the states, (T, N, P).

    An lstm's states are h, then c, (T, N, P + H); its gates are i, f, g, o, those of gru r, z, n.
    P is H but where an lstm projects its output by weight_hr. Of gru_reset_first the new state sees
    r · h in place of h, where gru multiplies what it makes of h by r. `reverse` starts at the end.
    Hochreiter & Schmidhuber 1997; arXiv:1406.1078, equations 5 to 8, and arXiv:1412.3555.
    """

    function: Literal["lstm", "gru", "gru_reset_first", "rnn_tanh", "rnn_relu"]
    reverse: bool = False

    @property
    def gates(self) -> int:
        """G: how many rows of the weights there are for each element of the state."""
        return {"lstm": 4, "gru": 3, "gru_reset_first": 3}.get(self.function, 1)
