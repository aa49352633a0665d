"""Settings that all tests share: fixed examples, fixed seeds, one thread."""

import gc

import pytest
import torch
from hypothesis import settings

# derandomized: the same examples in every run, so that a failure is the change's
settings.register_profile("fixed", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("fixed")
torch.set_num_threads(1)  # small tensors are slower on many

# that take long: one that began last would leave all workers but its own idle
FIRST = (
    "test_compile", "test_docs", "test_threads", "test_stream", "test_kernels_conv",
    "test_kernels_totals", "test_kernels_winograd", "test_sanitizers", "test_ship",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in FIRST)


def pytest_collection_finish():
    gc.freeze()  # what is there by now stays: nobody looks at 800,000 objects again and again


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=50, help="that the slow tests make")
    parser.addoption("--calls", type=int, default=1_000_000, help="that the slow tests make")
