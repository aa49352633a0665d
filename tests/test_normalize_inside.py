"""Networks that normalise their images themselves, by torchvision's function."""

import pytest
import torch
from test_capture import agree
from torch import nn
from torchvision.transforms import Normalize, _functional_tensor, v2
from torchvision.transforms.functional import normalize

from depthwise.graph import capture

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
X = (2, 3, 6, 5)


class Normalised(nn.Module):
    """Normalises by numbers, by tensors of its own, or in place, in front of a convolution."""

    def __init__(self, form: str, std=STD):
        super().__init__()
        self.form, self.conv, self.numbers = form, nn.Conv2d(3, 4, 3), std
        self.register_buffer("mean", torch.tensor(MEAN))
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x):
        match self.form:
            case "numbers":
                x = normalize(x, MEAN, self.numbers)
            case "tensors":
                x = normalize(x, self.mean, self.std)
            case "in place":
                x = normalize(x * 2, MEAN, self.numbers, inplace=True)
            case "one by one":
                x = torch.stack([normalize(image, MEAN, self.numbers) for image in x])
        return self.conv(x)


@pytest.mark.parametrize("form", ["numbers", "tensors", "in place", "one by one"])
def test_its_function_is_arithmetic(form):
    agree(Normalised(form), X)


@pytest.mark.parametrize("kind", [Normalize, v2.Normalize])
def test_its_module_is_arithmetic(kind):
    agree(nn.Sequential(kind(MEAN, STD), nn.Conv2d(3, 4, 3)), X)


def test_a_deviation_of_zero_is_an_error_as_in_torchvision():
    before = _functional_tensor.normalize
    with pytest.raises(ValueError, match="std evaluated to zero"):
        capture(Normalised("numbers", [0.2, 0.0, 0.2]), X)
    assert _functional_tensor.normalize is before


def test_torchvision_stays_as_it_was():
    before = _functional_tensor.normalize
    capture(Normalised("numbers"), X)
    assert _functional_tensor.normalize is before
