"""Which networks name classes, and by which value they are judged."""

import pytest
from quantization_networks import images, mixed
from torch import nn

import depthwise as dw
from depthwise.calibration.scores import gives_scores, judged_value, scores_of
from depthwise.graph import capture


class Ending(nn.Module):
    """A convolution, its means, and what a network may end with."""

    def __init__(self, end, channels=5):
        super().__init__()
        self.conv, self.end = nn.Conv2d(3, channels, 1), end

    def forward(self, x):
        return self.end(self.conv(x).mean((2, 3), keepdim=True))


def graph_of(end, channels=5, count=1):
    return capture(Ending(end, channels), (count, 3, 4, 4))


@pytest.mark.parametrize("count", [1, 3])
def test_vectors_maps_of_one_pixel_and_probabilities_are_classes(count):
    assert gives_scores(graph_of(lambda y: y + 1, count=count))
    assert gives_scores(graph_of(lambda y: y.flatten(1), count=count))
    assert gives_scores(graph_of(lambda y: y.flatten(1).softmax(1), count=count))


@pytest.mark.parametrize(
    ("end", "channels"),
    [
        (lambda y: y.expand(-1, -1, 2, 2) + 1, 5), (lambda y: y.flatten(1), 1),
        (lambda y: y.flatten(), 5), (lambda y: (y.flatten(1), y + 1), 5),
    ],
)  # fmt: skip
def test_maps_single_values_and_several_outputs_are_none(end, channels):
    graph = graph_of(end, channels)
    assert not gives_scores(graph)
    assert judged_value(graph) == graph.outputs[0].value
    with pytest.raises(ValueError, match="one vector of scores is taken, as 1x1000"):
        scores_of(graph)


def test_probabilities_are_judged_by_the_scores_before_them():
    graph = graph_of(lambda y: y.flatten(1).softmax(1))
    assert judged_value(graph) != graph.outputs[0].value
    net, x = mixed(), images(96, seed=5)
    plain, ended = (
        dw.quantize(each, (1, 3, 12, 12), x, options=dw.QuantizationOptions(steps=()))
        for each in (net, nn.Sequential(net, nn.Softmax(1)))
    )
    assert plain.record.nats == pytest.approx(ended.record.nats, rel=1e-6)
