"""What stands beside the tensors in checkpoints, and is read without running a line of others.

PyTorch's own reader (weights_only) makes only what is listed: numbers of NumPy, options, dates and
paths, and, for the classes of well-known frameworks, a plain dict in place of the object.
"""

import argparse
import collections
import datetime
import pathlib
import types
from typing import Any

import numpy as np

ARRAYS = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bhilqBHILQefdgFDSU"}]
PLAIN = [
    argparse.Namespace, types.SimpleNamespace, collections.deque,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone,
    set, frozenset, slice, complex, bytearray, list, dict, tuple, int, float, str, bool, range,
]  # fmt: skip
PATHS = [
    (pathlib.PurePosixPath, f"pathlib{place}.{kind}")
    for place in ("", "._local") for kind in ("PosixPath", "PurePosixPath")
] + [
    (pathlib.PureWindowsPath, f"pathlib{place}.{kind}")
    for place in ("", "._local") for kind in ("WindowsPath", "PureWindowsPath")
]  # fmt: skip


class Unread:
    """Stands for a class of others: what is made of it is a plain dict, of what is put into it."""

    def __new__(cls, *_: Any) -> Any:
        """Return an empty dict, whatever the other class would have made of its arguments."""
        return collections.OrderedDict()


# classes of options and records that are no code; a defaultdict has its own way to be filled
FOREIGN = (
    "collections.defaultdict",
    "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "omegaconf.nodes.AnyNode",
    "yacs.config.CfgNode", "fvcore.common.config.CfgNode", "detectron2.config.config.CfgNode",
    "easydict.EasyDict", "addict.addict.Dict", "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict", "mmengine.logging.history_buffer.HistoryBuffer",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
)  # fmt: skip


def _functions_of_numpy() -> list[tuple[Any, str]]:
    """Return what makes NumPy's arrays and numbers of bytes, under its old name and its new."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    makers = (multiarray._reconstruct, multiarray.scalar)
    return [
        (make, f"numpy.{core}.multiarray.{make.__name__}")
        for make in makers for core in ("core", "_core")
    ]  # fmt: skip


BESIDE: list[Any] = [
    *ARRAYS, *PLAIN, *PATHS, *_functions_of_numpy(), *((Unread, name) for name in FOREIGN),
]  # fmt: skip
