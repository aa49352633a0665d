"""The list of networks: a name, the function that builds it, and its options."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, ImportString, TypeAdapter, ValidationError
from torch import nn

from depthwise.errors import nearest
from depthwise.escaping import kind_of

ModelBuilder = Callable[..., nn.Module]

RESOLUTION = 224  # pixels, what most papers cut their ImageNet photographs to
Count = Annotated[int, Field(ge=1)]  # every whole number among the options counts something


class Entry(NamedTuple):
    """A registered network: its builder takes the options as keywords.

    `resolution` is the height and width, in pixels, that its paper feeds it.
    """

    name: str
    build: Callable[..., nn.Module]
    resolution: int = RESOLUTION

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options by name, with their defaults."""
        return dict(inspect.signature(self.build).parameters)

    @property
    def summary(self) -> str:
        """The first line of the builder's documentation."""
        return (self._function.__doc__ or "").split("\n")[0]

    @property
    def _function(self) -> ModelBuilder:
        return self.build.func if isinstance(self.build, partial) else self.build

    def parse(self, option: str, value: Any) -> Any:
        """Return `value` as the option's type; text is read, callables as package.module:name."""
        hint: Any = get_type_hints(self._function)[option]
        read = value
        if hint is int:
            hint = Count
        elif isinstance(value, str) and get_origin(hint) is Callable:
            hint = ImportString
        elif isinstance(value, str) and get_origin(hint) is Literal:
            read = next((choice for choice in get_args(hint) if str(choice) == value), value)
        adapter = TypeAdapter(
            hint, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
        )
        try:
            return adapter.validate_python(read)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(f"{self.name}: option {option}={value!r}: {reason}") from None

    def construct(self, **options: Any) -> nn.Module:
        """Build with random weights; the result's attribute `network` holds the name.

        Raises ValueError for an option that there is not, or a bad value.
        """
        for option in options:
            if option not in self.options:
                raise ValueError(
                    f"{self.name} has no option {option!r}: it takes {', '.join(self.options)}"
                )
        net = self.build(**{option: self.parse(option, value) for option, value in options.items()})
        net.network = self.name  # type: ignore[assignment]  (nn.Module types all as modules)
        return net


class Registry:
    """Builders by name. `noun` is what they build, `listing` the command that lists them."""

    def __init__(self, noun: str, resolution: int = RESOLUTION, listing: str | None = None):
        self.noun, self.resolution, self.listing = noun, resolution, listing
        self._entries: dict[str, Entry] = {}

    def register(
        self, *names: str, resolution: int | None = None
    ) -> Callable[[ModelBuilder], ModelBuilder]:
        """Register a builder under its own name, or under `names`: it then takes the name first.

        `resolution` is what its paper feeds it, where that is not the registry's.
        """

        def register(builder: ModelBuilder) -> ModelBuilder:
            for name in names or (builder.__name__,):
                assert name not in self._entries, f"two builders are named {name}"
                build = partial(builder, name) if names else builder
                self._entries[name] = Entry(name, build, resolution or self.resolution)
            return builder

        return register

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._entries)

    def find(self, name: str) -> Entry:
        """Return the entry `name`. Raises ValueError, with the nearest names."""
        if not isinstance(name, str):
            raise ValueError(f"the {self.noun} is given as {kind_of(name)}: give its name")
        if name in self._entries:
            return self._entries[name]
        listing = f"{self.listing} lists all" if self.listing else f"all: {', '.join(self.names())}"
        raise ValueError(
            f"no {self.noun} is named {name!r}: {nearest(name, self._entries)}; {listing}"
        )


NETWORKS = Registry("network", listing="`depthwise networks`")
network = NETWORKS.register


def list_models() -> list[str]:
    """Return the names of our networks, sorted: those that `create_model` takes."""
    return NETWORKS.names()


def find_network(name: str) -> Entry:
    """Return the registered network `name`. Raises ValueError, with the nearest names."""
    return NETWORKS.find(name)


def construct(name: str, **options: Any) -> nn.Module:
    """Build the network `name` with random weights; its attribute `network` holds the name.

    Raises ValueError for an unknown name, an option the network does not have, or a bad value.
    """
    return find_network(name).construct(**options)
