"""A change of one layer: fitted once, and again where the layer is another when it is made."""

from collections.abc import Callable
from typing import TypeVar

from depthwise.slimming.draft import Change, Draft
from depthwise.slimming.layers.sites import Site, find_again

Fitted = TypeVar("Fitted")


def offer(
    move: str, site: Site, words: str, damage: float, found: Fitted,
    fit: Callable[[Site], Fitted], build: Callable[[Site, Fitted], Draft],
) -> Change:  # fmt: skip
    """Return a change of a layer.

    Args:
        move: Its name.
        site: The layer.
        words: What becomes of it.
        damage: What that does, in nats an image.
        found: The weights, or what they are made of, as fitted to the site.
        fit: Fits them to the layer as it is in a later draft, if its channels were moved or cut, or
            its weights changed, meanwhile.
        build: Puts them in the layer's place. Raises ValueError where that is no change any more.
    """

    def apply(draft: Draft) -> Draft:
        again = find_again(site, draft)
        return build(again, found if again.is_like(site) else fit(again))

    return Change(move, site.path, words, damage, apply)
