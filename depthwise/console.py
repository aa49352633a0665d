"""A terminal on which the text of others stays text."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from depthwise.escaping import in_text


class Screen(Console):
    """A console on which text is text: no markup, no codes of pictures, no control characters."""

    def __init__(self, **options):
        super().__init__(markup=False, emoji=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does, and spell what is not rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=in_text(segment.text))
