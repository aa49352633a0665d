"""Networks of timm and torchvision, by their names and with their options."""

import warnings
from typing import TYPE_CHECKING

from depthwise.errors import nearest
from depthwise.sources.factory import call, literal
from depthwise.sources.spec import Settings, Spec

if TYPE_CHECKING:
    from torch import nn

    from depthwise.graph import Shape

    Built = tuple[nn.Module, Shape]


def build_from_timm(spec: Spec, settings: Settings) -> "Built":
    """Return a network of timm, and the shape of the image that it says it is for."""
    try:
        import timm  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ValueError(f"{spec.text} needs timm: pip install timm") from None
    _check_listed("timm", spec.name, timm.list_models())
    net = call(spec, timm.create_model, settings, spec.name)
    image: tuple[int, int, int] = net.pretrained_cfg["input_size"]  # type: ignore
    channels, height, width = image
    return net.eval(), (1, literal(settings.get("in_chans", channels)), height, width)


def build_from_torchvision(spec: Spec, settings: Settings) -> "Built":
    """Return a network of torchvision, and the shape of the image that its weights are for."""
    from torchvision import models  # noqa: PLC0415

    _check_listed("torchvision", spec.name, models.list_models())
    with warnings.catch_warnings(action="ignore"):  # of the initial weights' coming change
        net = call(spec, models.get_model, settings, spec.name)
    weights = list(models.get_model_weights(spec.name))
    crop = getattr(weights[0].transforms(), "crop_size", [224]) if weights else [224]
    return net.eval(), (1, 3, crop[0], crop[0])


def _check_listed(library: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise ValueError(f"{library} has no network {name!r}: {nearest(name, known)}")
