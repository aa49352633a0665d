"""Why a network could not be exported, in words its author can act on."""

import re
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
)

from depthwise.errors import Unsupported
from depthwise.escaping import in_line, text_of
from depthwise.graph.ending import ending
from depthwise.graph.frontends.torch.arguments import ExportArguments
from depthwise.graph.frontends.torch.course import Course
from depthwise.graph.frontends.torch.preserve import evaluating
from depthwise.users_code import users_line

BY_VALUES = (DataDependentOutputException, DynamicOutputShapeException)
LONGEST = 240  # letters of what PyTorch says

# what PyTorch says where a network does not run, whatever its input -> what to do; the first found
BROKEN = (
    (r'missing the required "forward"', "give a network with a forward of its own"),
    (r"CUDA|NVIDIA|HIP|Expected all tensors to be on the same device",
     "let its forward take the device of its input, x.device, instead of naming one"),
    (r"target dtype|target size|target tensor|number of dims? .*target", "leave losses out of its "
     "forward where it is not trained: if self.training"),
    (r"object has no attribute", "mend its forward: it asks for what is not there"),
    (r"missing \d+ required|unexpected keyword argument|positional arguments? but",
     "mend its forward: it calls something with other arguments than that takes"),
    (r"[Ii]nput type \((long|unsigned char|signed char|bool|short|int)",
     "its weights are floating-point: convert its input in its forward, x.float()"),
    (r"scalar types: Long", "it reads its input as whole numbers, as an embedding does: images are "
     "numbers with fractions"),
    (r"should be the same|same dtype|scalar type|not implemented for '",
     "let all its weights, and what its forward makes, have one type: net.float()"),
)  # fmt: skip

# what PyTorch says where an input does not fit -> what to do
MISFITS = (
    (r"more than 1 value per channel", "take a larger input, or let its normalisation keep "
     "statistics (track_running_stats=True)"),
    (r"to have \d+ channels", "give as many channels as the network was built for"),
    (r"mat1 and mat2|normalized_shape|in_features",
     "give an input of the size that its linear layers were built for"),
)  # fmt: skip

# what torch.export says of a network that runs -> what of the network it means, and what to do
ASSIGNED = r"fake tensor in the exported program|assigned during export|requires_grad=True"
RETURNED = (
    "return tensors in tuples, lists, dicts and dataclasses that torch knows "
    "(torch.export.register_dataclass), with numbers, texts, True, False or None beside them"
)
UNTRACED = (
    (r"Found <class '([^']+)'> in output, which is not a known", rf"it returns \1: {RETURNED}"),
    (r"'(\w+)' object has no attribute 'meta'|weak reference to '(\w+)' object",
     rf"it returns \1\2: {RETURNED}"),
    (ASSIGNED,
     "its forward assigns to the module's own weights: compute them before, and keep them"),
    (r"numpy|NumPy", "its forward takes numbers out of tensors, with NumPy or as Python's own: use "
     "torch's operators"),
    (r"Unexpected key _export_root", "its forward catches an exception of one of its modules: let "
     "it decide by something else"),
    (r"no fake impl|register_fake", "it calls an operator of its author's own: build it from "
     "PyTorch's"),
    (r"sparse|Sparse", "it has sparse tensors: make them dense with .to_dense()"),
)  # fmt: skip
USUAL = (
    "remove from its forward what depends on Python objects or assigns to the module's own tensors"
)


def explain(
    error: Exception, net: nn.Module, inputs: tuple[Tensor, ...], arguments: ExportArguments
) -> Exception:
    """Return the ValueError or Unsupported to raise for a failed export.

    The network is run once more on shapes alone, which tells where it decides by values. Where that
    fails for another reason it is run on zeros, with nothing of ours around it: if it fails still,
    the input does not fit it, and the innermost module then running is where; else its code cannot
    be traced.
    """
    if other := _other_form(net):
        return Unsupported(f"torch.export cannot trace the network: {other}")
    course, failure = Course(), None
    try:
        with evaluating(net):
            course.run(net, inputs, arguments)
    except BY_VALUES as by_values:
        return Unsupported(_by_values(by_values, course))
    except Exception as found:
        failure = found
    if failure is not None:
        real = not any(isinstance(x, FakeTensor) for x in inputs)
        misfit = _failure_on_zeros(net, inputs, arguments) if real else failure
        if misfit:
            return ValueError(_misfit(misfit, course, inputs))
    known = _find(UNTRACED, error)
    return Unsupported(
        f"the network runs for input {_shapes(inputs)} but torch.export cannot trace it"
        f"{_line(error)}: {known or f'{_reason(error)}; {USUAL}'}"
    )


def assigns_weights(error: Exception) -> bool:
    """Tell whether an export failed since the network assigns to weights when it runs."""
    return bool(_find(((ASSIGNED, "it does"),), error))


def _line(failure: BaseException) -> str:
    """Return ", at FILE:LINE (its text)" of the innermost line that is the user's own, if any is.

    PyTorch's lines, torchvision's, timm's and ours are not: no user can mend them.
    """
    line = users_line(failure)
    return f", at {line}" if line else ""


def _by_values(failure: Exception, course: Course) -> str:
    """Return what is to be done about a network that looks at what its tensors hold."""
    func = getattr(failure, "func", None)
    if isinstance(failure, DynamicOutputShapeException):
        what = f"makes as many elements as the values of tensors say ({func})"
    else:
        what = "decides by the values of tensors"
    end = ending(course.feeding) if course.feeding else f"; {_instead(failure)}"
    return (
        f"module {course.module!r} {what}{_line(failure)}: a library runs the same steps for "
        f"every input{end}"
    )


def _misfit(failure: Exception, course: Course, inputs: tuple[Tensor, ...]) -> str:
    """Return what is to be done about a network that does not run."""
    if isinstance(failure, ImportError):
        return (
            f"the network's forward imports {failure.name or 'a package'}, which is not there"
            f"{_line(failure)}: install it"
        )
    broken = _find(BROKEN, failure)
    if broken or not _blames_the_input(failure):
        raised = ": ".join(filter(None, (type(failure).__name__, _first_line(failure))))
        where = f" in module {course.module!r}" if course.running[-1] else ""
        usual = f"mend it, or give an input that it is for, where {_shapes(inputs)} is not"
        return f"the network's forward raises {raised}{where}{_line(failure)}: {broken or usual}"
    advice = _find(MISFITS, failure)
    if any(x.ndim == 3 for x in inputs):
        advice = "images come in batches, one image too: (1, 3, 224, 224)"
    usual = "take a larger input, or the number of channels that the network was built for"
    return (
        f"input {_shapes(inputs)} does not fit the network: module {course.module!r} says: "
        f"{_reason(failure)}{_line(failure)}; {advice or usual}"
    )


def _instead(failure: Exception) -> str:
    """Return what to do about steps that values decide, as the lengths of packed sequences do."""
    frames = traceback.extract_tb(failure.__traceback__)
    if any(Path(frame.filename).name == "rnn.py" for frame in frames):
        return (
            "its sequences have one length, so give recurrent layers the padded tensor itself in "
            "place of a PackedSequence"
        )
    return "compute both and combine them with torch.where, or decide outside of the network"


def _blames_the_input(failure: Exception) -> bool:
    """Tell whether PyTorch raised it, or a check of the network's own, as of the size of images."""
    frames = traceback.extract_tb(failure.__traceback__)
    if frames and Path(frames[-1].filename).is_relative_to(Path(torch.__file__).parent):
        return True
    checks = (RuntimeError, AssertionError, IndexError)
    return isinstance(failure, checks) and not isinstance(failure, RecursionError)


def _failure_on_zeros(
    net: nn.Module, inputs: tuple[Tensor, ...], arguments: ExportArguments
) -> Exception | None:
    """Run the network as it is, and return what it raises."""
    try:
        with evaluating(net), torch.no_grad():
            arguments.call(net, map(torch.zeros_like, inputs))
    except Exception as failure:
        return failure
    return None


def _shapes(inputs: tuple[Tensor, ...]) -> str:
    return ", ".join(str(tuple(x.shape)) for x in inputs)


def _reason(error: Exception) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    return _first_line(error) or type(error).__name__


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in text_of(error).split("\n")]
    return in_line(next(filter(None, lines), ""), LONGEST)


def _find(known: Any, error: Exception) -> str:
    said = text_of(error)
    found = ((re.search(pattern, said), advice) for pattern, advice in known)
    return next((in_line(match.expand(advice), LONGEST) for match, advice in found if match), "")


def _other_form(net: nn.Module) -> str:
    """Return what to do about a network that was made into another form, or has such a part."""
    for name, module in net.named_modules():
        which, kind = f"module {name!r}" if name else "the network", type(module).__module__
        if "mkldnn" in kind:
            return f"{which} was made for MKL-DNN: give the network before to_mkldnn"
        if kind.startswith(("torch.ao.nn", "torch.nn.quantized")) and "quantized" in kind:
            return f"{which} is quantised: give the network before that"
    return ""
