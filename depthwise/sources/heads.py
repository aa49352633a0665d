"""The classifier that a network ends in, made to have as many classes as its images."""

from torch import nn

NEW_HEAD = 0.01  # the deviation of a new classifier's weights


def replace_head(net: nn.Module, classes: int) -> None:
    """Give a network another classifier where its own has another number of classes.

    Raises ValueError where its last layer with weights is none.
    """
    name, head = find_head(net)
    width = head.out_features if isinstance(head, nn.Linear) else head.out_channels
    if width == classes:
        return
    if isinstance(head, nn.Linear):
        new: nn.Module = nn.Linear(head.in_features, classes, bias=head.bias is not None)
    else:
        new = nn.Conv2d(head.in_channels, classes, 1, bias=head.bias is not None)
    nn.init.trunc_normal_(new.weight, std=NEW_HEAD)  # type: ignore
    if new.bias is not None:
        nn.init.zeros_(new.bias)  # type: ignore
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, new)


def find_head(net: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return a network's classifier and its name: its last linear layer, or 1x1 convolution.

    Raises ValueError where it has neither.
    """
    inside = [(name, each) for name, each in net.named_modules() if name]
    layers = [(name, each) for name, each in inside if isinstance(each, nn.Linear)] or [
        (name, each)
        for name, each in inside
        if isinstance(each, nn.Conv2d) and each.kernel_size == (1, 1)
    ]
    if not layers:
        raise ValueError(
            f"{type(net).__name__} has no linear layer and no 1x1 convolution in it that could be "
            "its classifier: training is for networks that end in the scores of classes"
        )
    return layers[-1]
