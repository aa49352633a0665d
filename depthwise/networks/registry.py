"""The list of networks: a name, the function that builds it, and its options."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, get_origin, get_type_hints

from pydantic import ConfigDict, ImportString, TypeAdapter, ValidationError
from torch import nn

Builder = Callable[..., nn.Module]


def network(*names: str) -> Callable[[Builder], Builder]:
    """Register a function that builds a network, under its own name or under `names`.

    A function registered under `names` takes the name as its first argument.
    """

    def register(builder: Builder) -> Builder:
        for name in names or (builder.__name__,):
            assert name not in _ENTRIES, f"two networks are named {name}"
            _ENTRIES[name] = Entry(name, partial(builder, name) if names else builder)
        return builder

    return register


class Entry(NamedTuple):
    """A registered network: its builder takes the options as keywords."""

    name: str
    build: Callable[..., nn.Module]

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options by name, with their defaults."""
        return dict(inspect.signature(self.build).parameters)

    @property
    def summary(self) -> str:
        """The first line of the builder's documentation."""
        function = self.build.func if isinstance(self.build, partial) else self.build
        return (function.__doc__ or "").split("\n")[0]

    def parse(self, option: str, value: Any) -> Any:
        """Return `value` as the option's type; text is read, callables as package.module:name."""
        function = self.build.func if isinstance(self.build, partial) else self.build
        hint = get_type_hints(function)[option]
        if isinstance(value, str) and get_origin(hint) is Callable:
            hint = ImportString
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(f"{self.name}: option {option}={value!r}: {reason}") from None


_ENTRIES: dict[str, Entry] = {}


def networks() -> list[str]:
    """Return the names that `build` takes, sorted."""
    return sorted(_ENTRIES)


def find_network(name: str) -> Entry:
    """Return the registered network `name`. Raises ValueError, with the nearest names."""
    if name in _ENTRIES:
        return _ENTRIES[name]
    near = difflib.get_close_matches(name, _ENTRIES, 4, 0.5)
    hint = f"the nearest are {', '.join(near)}" if near else "none is near"
    raise ValueError(f"no network is named {name!r}: {hint}; `depthwise networks` lists all")


def construct(name: str, **options: Any) -> nn.Module:
    """Build the network `name` with random weights; its attribute `network` holds the name.

    Raises ValueError for an unknown name, an option the network does not have, or a bad value.
    """
    entry = find_network(name)
    for option in options:
        if option not in entry.options:
            raise ValueError(
                f"{name} has no option {option!r}: it takes {', '.join(entry.options)}"
            )
    net = entry.build(**{option: entry.parse(option, value) for option, value in options.items()})
    net.network = name  # type: ignore[assignment]  (nn.Module types its attributes as modules)
    return net
