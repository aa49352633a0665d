"""What PyTorch makes of NaN, infinities and too few elements; what is refused, in which words."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from operator_cases import Function

import depthwise as dw
from depthwise.errors import Unsupported
from depthwise.graph import capture, interpret

SPECIAL = torch.tensor([
    [1.0, 3.0, 3.0, -2.0], [1.0, torch.nan, 0.0, torch.nan], [torch.inf, 2.0, 5.0, 2.0],
    [-torch.inf, -torch.inf, -torch.inf, -torch.inf], [torch.inf, -torch.inf, 1.0, 0.0],
    [-torch.inf, 4.0, torch.nan, torch.inf],
])  # fmt: skip


def specials(x):
    values, places = x.max(1)
    lowest, where = x.min(1)
    sorted_, order = x.sort(dim=1, stable=True)
    return (
        values, places, lowest, where, x.argmax(1), x.argmin(1), x.amax(1), sorted_, order,
        x.sort(dim=1, descending=True, stable=True)[1], x.logsumexp(1), x.median(1)[0],
        x.median(1)[1], x.cummax(1)[0], x.cummin(1)[0], x.cumsum(1), x.prod(1), x.norm(dim=1),
        x.norm(torch.inf, dim=1), x.norm(0, dim=1), x.norm(1, dim=1), x.nansum(1), x.nanmean(1),
        x.kthvalue(2, 1)[0], x.all(1).float(), x.any(1).float(),
    )  # fmt: skip


def test_special_numbers_go_as_in_pytorch():
    graph = capture(Function(specials), tuple(SPECIAL.shape))
    with np.errstate(all="ignore"):
        values = interpret(graph, SPECIAL.numpy())
    for output, expected in zip(graph.outputs, specials(SPECIAL), strict=True):
        np.testing.assert_allclose(
            values[output.value], expected.numpy(), 1e-6, err_msg=output.name
        )


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_too_few_elements_have_no_spread():
    def spreads(x):
        return x.var(1, correction=4), x.std(1, correction=7), x[:1].std(0)

    x = torch.tensor([[1.0, 2.0, 4.0, 8.0], [3.0, 3.0, 3.0, 3.0]])
    graph = capture(Function(spreads), (2, 4))
    with np.errstate(all="ignore"):
        values = interpret(graph, x.numpy())
    for output, expected in zip(graph.outputs, spreads(x), strict=True):
        np.testing.assert_array_equal(values[output.value], expected.numpy())


def test_compiled_special_numbers_go_as_in_pytorch():
    library = dw.compile(Function(specials), tuple(SPECIAL.shape))
    found = library(SPECIAL)
    for number, (y, expected) in enumerate(zip(found, specials(SPECIAL), strict=True)):
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y.numpy(), expected.numpy(), 1e-6, err_msg=f"output {number}")


def test_ties_are_the_first():
    x = torch.tensor([[2.0, 5.0, 5.0, 1.0, 5.0, 1.0]])

    def ties(x):
        return x.topk(2, 1)[1], x.kthvalue(1, 1)[1], x.max(1)[1], x.sort(1, descending=True)[1]

    top, lowest, most, order = dw.compile(Function(ties), (1, 6))(x)
    assert top.tolist() == [[1, 2]]
    assert (lowest.item(), most.item()) == (3, 1)
    assert order.tolist() == [[1, 2, 4, 0, 3, 5]]


SIZES = r"gives as many elements as the values decide, and a library's sizes are fixed: end the"
REFUSED = {
    "nonzero": (lambda x: x.nonzero(), SIZES),
    "unique": (lambda x: x.unique(), SIZES),
    "running": (lambda x: x.cummax(1)[1], "places of running extremes, which the graph has no"),
    "bins": (lambda x: F.adaptive_max_pool2d(x, 4, return_indices=True)[1],
             r"bins of several sizes: pool planes of \(6, 6\) pixels to sizes that divide them"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_library_selects_is_refused_in_words(name):
    function, message = REFUSED[name]
    where = r"operator aten\.\w+\.\w+ in module '\(the network itself\)' \(.*:\d+\)"
    with pytest.raises(Unsupported, match=f"^{where} .*{message}"):
        dw.compile(Function(function), (1, 3, 6, 6))
