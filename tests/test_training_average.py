"""The moving average against its closed form, number by number."""

import pytest
import torch
from torch import nn

from depthwise.training.average import Average


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def fill(net: nn.Module, value: float) -> None:
    """Set every parameter and every buffer, the whole numbers too."""
    for tensor in net.state_dict().values():
        tensor.fill_(value)


def expected(values: list[float], decay: float) -> float:
    average = values[0]
    for t, value in enumerate(values[1:]):
        d = min(decay, (1 + t) / (10 + t))
        average = d * average + (1 - d) * value
    return average


def test_average_has_its_closed_form():
    """Parameters and running statistics are averaged, the number of batches is copied."""
    net = tiny()
    values = [1000.0, *range(1, 31)]
    fill(net, values[0])
    average = Average(net, 0.7)
    for value in values[1:]:
        fill(net, value)
        average.update(net)
    state = average.net.state_dict()
    assert state.pop("1.num_batches_tracked") == 30
    assert len(state) == 6
    for tensor in state.values():
        torch.testing.assert_close(tensor, torch.full_like(tensor, expected(values, 0.7)))
    assert expected(values, 0.7) < 30  # the start, a thousand, is forgotten
    assert not average.net.training
    assert not any(parameter.requires_grad for parameter in average.net.parameters())


def test_average_goes_on_from_its_state():
    net = tiny()
    average = Average(net)
    average.update(net)
    state = average.state()
    resumed = Average(tiny())
    resumed.restore(state)
    fill(net, 3.0)
    for each in (average, resumed):
        each.update(net)
        each.update(net)
    assert all(
        torch.equal(own, other)
        for own, other in zip(average.state().values(), resumed.state().values(), strict=True)
    )
    assert not torch.equal(average.state()["0.weight"], state["0.weight"])  # a copy, not a view


def test_average_of_another_network_is_refused():
    with pytest.raises(ValueError, match=r"another network: see 0\.bias"):
        Average(tiny()).restore(Average(nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))).state())
    with pytest.raises(ValueError, match="another network: see weight"):
        Average(nn.Linear(2, 2)).restore(Average(nn.Linear(2, 3)).state())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_averages_nothing_is_refused(decay: float):
    with pytest.raises(ValueError, match="0 to below 1"):
        Average(tiny(), decay)


def test_weights_in_half_are_refused():
    with pytest.raises(ValueError, match="keep the weights in float32"):
        Average(tiny().to(torch.bfloat16))
