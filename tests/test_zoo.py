"""Networks that we did not write, compiled: a sample of those of tools/compile_zoo.py."""

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "compile_zoo.py"


@pytest.fixture(scope="module")
def zoo():
    specification = importlib.util.spec_from_file_location("compile_zoo", TOOL)
    module = importlib.util.module_from_spec(specification)
    sys.modules["compile_zoo"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    yield module
    del sys.modules["compile_zoo"]


def attempt(zoo, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the networks' own
        return zoo.attempt(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "skresnet18", "eca_nfnet_l0", "dla34", "hrnet_w18_small", "cspresnet50", "mixnet_s",
        "repghostnet_050", "efficientvit_b0", "convnextv2_atto", "edgenext_xx_small",
        "inception_next_atto", "tv.shufflenet_v2_x1_0", "tv.deeplabv3_mobilenet_v3_large",
        "tv.lraspp_mobilenet_v3_large",
    ],
)  # fmt: skip
def test_foreign_networks_compile(zoo, name):
    row = attempt(zoo, name)
    assert row.result == "equal"
    assert row.error <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "operator"),
    [("mobilevit_xxs", "aten.scaled_dot_product_attention.default"), ("tv.swin_t", "aten.fill_")],
)
def test_what_is_no_convolutional_network_is_refused_by_name(zoo, name, operator):
    row = attempt(zoo, name)
    assert row.result.startswith(f"refused: operator {operator}")


def test_a_generator_of_transposed_convolutions_compiles(zoo):
    row = attempt(zoo, zoo.GENERATOR)
    assert row.result == "equal"
    assert row.error <= 1e-5


def test_names_are_known_and_named_once(zoo):
    names = list(zoo.names())
    assert len(set(names)) == len(names) >= 60
    assert set(zoo.SIDES) <= {name.removeprefix("tv.") for name in names}
    assert set(zoo.TIMM) <= set(zoo.timm.list_models())
    assert {*zoo.TORCHVISION, *zoo.SEGMENTATION} <= set(zoo.torchvision.models.list_models())


def test_drawn_parameters_hide_no_branch(zoo):
    net, _ = zoo.build("resnet18")  # timm starts the last gain of each branch at zero
    assert all(block.bn2.weight.abs().min() > 0 for block in (*net.layer1, *net.layer4))
