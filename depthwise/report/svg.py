"""The few SVG elements that our pictures are made of, and how wide text is.

Classes carry the colours, so that one file is light or dark as the reader's screen is.
"""

from xml.sax.saxutils import escape

from depthwise.escaping import in_line
from depthwise.report.colours import BLUE, COLOURS, DARK, SKY

FONT = "Verdana, 'DejaVu Sans', Helvetica, Arial, sans-serif"

# Widths of DejaVu Sans in thousandths of the font's size, the widest font of FONT: estimates that
# hold for the others too. Letters that are not listed are as wide as the widest of their sort.
NARROW = {
    **dict.fromkeys("ijl'", 278), **dict.fromkeys(" .,:;|·I", 340),
    **dict.fromkeys("frt()[]/-", 412),
    **dict.fromkeys("s_?*–", 533), **dict.fromkeys("ckvxyzJ", 593), **dict.fromkeys("aeoE", 632),
    **dict.fromkeys("bdghnpqu0123456789LTFZYSPB", 686),
}  # fmt: skip
WIDE = {**dict.fromkeys("mwMW%@→", 1000), "—": 1000, "…": 1000}
BOLD = 1.24  # bold letters are this much wider

# class -> (property of light screens, of dark ones)
STYLES = {
    "page": ("fill:#FFFFFF", "fill:#15181C"),
    "card": ("fill:#F6F7F9;stroke:#C3C8CE", "fill:#1E2329;stroke:#4A535C"),
    "ink": ("fill:#1B1F23", "fill:#E8EAED"),
    "dim": ("fill:#57606A", "fill:#A3ACB5"),
    "wire": ("fill:none;stroke:#57606A;stroke-width:1.2", "stroke:#A3ACB5"),
    "joint": ("fill:#FFFFFF;stroke:#57606A;stroke-width:1.2", "fill:#15181C;stroke:#A3ACB5"),
    "track": ("fill:#DDE1E6", "fill:#353C44"),
    "bar": (f"fill:{BLUE}", f"fill:{SKY}"),
    "box": ("fill:#FFFFFF;stroke:#8A929A", "fill:#2A3038;stroke:#77818B"),
}


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return an upper estimate of how many pixels wide `text` is in letters of `size` pixels."""
    widths = (NARROW.get(c, WIDE.get(c, 860 if c.isascii() else 840)) for c in text)
    return sum(widths) * size / 1000 * (BOLD if bold else 1)


def shorten(text: str, width: float, size: float, bold: bool = False) -> str:
    """Return `text`, cut in the middle where it is wider than `width`."""
    kept = len(text)
    short = text
    while text_width(short, size, bold) > width and kept > 2:
        kept -= 1
        short = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def words(x: float, y: float, text: str, size: float, style: str = "ink") -> str:
    """Return text whose line stands on `y`; `style` are classes: ink or dim, middle, end, bold."""
    place = f'x="{x:.5g}" y="{y:.5g}" font-size="{size:g}"'
    return f'<text {place} class="{style}">{escape(in_line(text))}</text>'


def rectangle(
    x: float, y: float, width: float, height: float, style: str, corner: float = 0
) -> str:
    """Return a rectangle of a class, with round corners where `corner` is their radius."""
    rounded = f' rx="{corner:g}"' if corner else ""
    size = f'width="{width:.5g}" height="{height:.5g}"'
    return f'<rect x="{x:.5g}" y="{y:.5g}" {size}{rounded} class="{style}"/>'


def wire(*points: tuple[float, float], style: str = "wire") -> str:
    """Return a line through the points."""
    path = " ".join(f"{x:.5g},{y:.5g}" for x, y in points)
    return f'<polyline points="{path}" class="{style}"/>'


def document(width: float, height: float, title: str, shapes: list[str], css: str = "") -> str:
    """Return a whole SVG file of `width` x `height` pixels; `css` adds classes of its own."""
    size = f'width="{width:g}" height="{height:.5g}" viewBox="0 0 {width:g} {height:.5g}"'
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(in_line(title))}</title>",
        f"<style>\n{_css()}{css}</style>",
        rectangle(0, 0, width, height, "page"),
        *shapes,
        "</svg>\n",
    ))  # fmt: skip


def _css() -> str:
    light = [f".{name}{{{style}}}" for name, (style, _) in STYLES.items()]
    dark = [f".{name}{{{style}}}" for name, (_, style) in STYLES.items()]
    kinds = [f".{n}{{fill:{c};stroke:{c}}}" for n, c in COLOURS.items()]
    dark_kinds = [f".{n}{{fill:{c};stroke:{c}}}" for n, c in DARK.items()]
    return "\n".join((
        f"text{{font-family:{FONT};stroke:none}}",
        ".bold{font-weight:bold} .middle{text-anchor:middle} .end{text-anchor:end}",
        "polyline{fill:none}",
        *light,
        *kinds,
        ".tint{fill-opacity:.2;stroke-width:1}",
        ".dashed{stroke-dasharray:4 3}",
        "@media (prefers-color-scheme:dark){",
        *dark,
        *dark_kinds,
        "}\n",
    ))  # fmt: skip
