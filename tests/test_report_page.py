"""report.html: every number stands in report.json, nothing is fetched, and a browser shows it."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from random import Random

import numpy as np
import pytest
from shipping_requests import (
    make_network,
    make_request,
    measured_elsewhere,  # noqa: F401  (a fixture, used by all)
)

from depthwise.compiler.options import CompileOptions
from depthwise.hardware import Spread
from depthwise.hardware.record import Reading
from depthwise.report.charts import LETTERS, field_chart, roofline_chart
from depthwise.report.colours import COLOURS
from depthwise.report.figures import (
    duration,
    number,
    path,
    percent,
    share,
    sizes,
    times,
    tiny,
    units,
)
from depthwise.report.network_picture import cut_into_cards
from depthwise.report.page import render_page
from depthwise.report.record import Baseline, Comparison, CostSummary, LayerProfile, Report
from depthwise.report.roofs import Rectangle, Roof, place_names, text_box
from depthwise.runtime.manifest import read_saved
from depthwise.shipping import ship

FACTORS = {"k": 1e3, "M": 1e6, "G": 1e9, "%": 1e-2, "s": 1e3, "µs": 1e-3, "ns": 1e-6}
SILENT = {"style", "title", "pre", "code", "script"}  # not prose, or code
EMPTY = {"meta", "link", "img", "br", "wbr", "i", "u"} - {"i", "u"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    request = make_request(tmp_path_factory.mktemp("shipped"))
    ship(request, make_network())
    return request.directory


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def figures(folder):
    return json.loads((folder / "report.json").read_text())


class Reader(HTMLParser):
    """Collects numbers with their values, and all other text that has a digit."""

    def __init__(self):
        super().__init__()
        self.stack, self.marked, self.loose, self.sources = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.sources += [found[name] for name in ("src", "href") if name in found]
        if tag not in EMPTY:
            self.stack.append((tag, found))

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.stack.pop()[0] == tag

    def handle_data(self, text):
        tags = {tag for tag, _ in self.stack}
        axis = any(found.get("class") == "axis" for _, found in self.stack)
        if tags & SILENT or axis or not re.search(r"\d", text):
            return
        values = [
            found.get("value") or found["data-value"]
            for tag, found in self.stack
            if tag == "data" or "data-value" in found
        ]
        if values:
            self.marked.append((float(values[-1]), text))
        else:
            self.loose.append(text)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.stack == []
    return reader


def leaves(value):
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in (key, *leaves(part))]
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


def is_rounded(value, text):
    """Tell whether a text has a value's digits, as many as it prints."""
    found = re.search(
        r"(?<!\w)(-?[\d,]+)(?:\.(\d+))?(?:e([-+]\d+))?\s*([kMG%](?=B?$)|[µn]?s$)?", text
    )
    if text.startswith("<"):
        return 0 < value < float(found[0].rstrip(" %"))
    digits = f"{found[1].replace(',', '')}.{found[2] or ''}"
    scale = 10.0 ** int(found[3] or 0) * FACTORS.get(found[4], 1)
    return abs(float(digits) * scale - value) <= 0.501 * scale * 10 ** -len(found[2] or "")


# ------------------------------------------------------------------------------------- numbers


def test_every_number_stands_in_the_json_that_the_manifest_names(folder, page, figures):
    assert read_saved(folder).manifest.report == "report.json"
    known = {float(x) for x in leaves(figures) if isinstance(x, int | float)}
    marked = read(page).marked
    assert len(marked) > 60
    for value, text in marked:
        assert value in known, f"{text} is {value}, which is not in report.json"
        assert is_rounded(value, text), f"{text} is not {value}"


def test_all_other_digits_are_names_and_versions(page, figures):
    strings = "\n".join(x for x in leaves(figures) if isinstance(x, str))
    for text in read(page).loose:
        for word in re.findall(r"\S*\d\S*", text):
            assert word.strip("(),.;:") in strings, f"{word!r} in {text!r} comes from nowhere"


def test_the_picture_of_the_network_is_the_recorded_one(page, figures):
    svg = base64.b64encode(figures["stages"]["count"]["picture"].encode()).decode()
    assert f'src="data:image/svg+xml;base64,{svg}"' in page


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (number(1234.567, 1, "ms"), '<data value="1234.567">1,234.6 ms</data>'),
        (number(0.004, 2), '<data value="0.004">&lt;0.01</data>'),
        (number(0.0, 2), '<data value="0.0">0.00</data>'),
        (duration(0.0145), '<data value="0.0145">14.50 µs</data>'),
        (duration(14.5), '<data value="14.5">14.50 ms</data>'),
        (units(300_774_272), '<data value="300774272">300.77 M</data>'),
        (percent(0.876, 1), '<data value="0.876">87.6 %</data>'),
        (share(0.876), '<data value="0.876">88 %</data>'),
        (share(None), "–"),
        (times(7.756), '<data value="7.756">7.76×</data>'),
        (tiny(2.04e-6), '<data value="2.04e-06">2.0e-06</data>'),
        (sizes([3, 5]), '<data value="3">3</data>×<data value="5">5</data>'),
    ],
)
def test_how_numbers_are_printed(printed, text):
    assert str(printed) == text


def test_a_wrong_digit_would_be_noticed():
    assert is_rounded(300_774_272, "300.77 M")
    assert not is_rounded(300_774_272, "300.87 M")
    assert is_rounded(2.04e-6, "2.0e-06")
    assert not is_rounded(2.04e-6, "2.1e-06")
    assert is_rounded(0.876, "87.6 %")
    assert not is_rounded(0.876, "0.876 %")
    assert is_rounded(212.4, "212 GFLOP/s")
    assert is_rounded(0.014504, "14.50 µs")
    assert not is_rounded(0.014504, "14.50 ms")
    assert is_rounded(0.004, "<0.01")
    assert not is_rounded(0.04, "<0.01")


# ------------------------------------------------------------------------------------ one file


def test_nothing_is_fetched(page):
    assert all(source.startswith(("data:", "#")) for source in read(page).sources)
    assert "url(" not in page
    assert "<script" not in page


def test_the_titles_of_a_chart_stay_apart(figures):
    costs = Report.model_validate(figures).find(CostSummary)
    field = costs.receptive_field[0]
    sides = (field // 2, 0.97 * field, 10 * field)  # it sees more than the image, ..., and less
    for side in (*sides, 1, 99, 501, 999, 1001, 2000, 5001):
        drawn = field_chart(costs, side)
        boxes = [box for text, box in texts_of(drawn) if "whole" not in text]
        assert not any(a.meets(b) for i, a in enumerate(boxes) for b in boxes[:i])
        image, axis = (
            float(re.search(rf' y="([\d.]+)"[^>]*>{title}<', drawn)[1])
            for title in ("the whole image", "pixels seen")
        )
        assert abs(image - axis) > LETTERS


TEXT = re.compile(r'<text x="([^"]+)" y="([^"]+)" font-size="([^"]+)" class="([^"]*)">([^<]*)<')


def texts_of(svg):
    """Return each text of a chart with the box that it covers."""
    found = []
    for x, y, size, style, text in TEXT.findall(svg):
        box = text_box(float(x), float(y), text, float(size))
        width = box.right - box.left
        back = {"end": width, "middle": width / 2}.get(style.split()[-1], 0)
        found.append((text, box._replace(left=box.left - back, right=box.right - back)))
    return found


def drawn(found, random):
    """Return the chart of a random machine and layers, below its roofs, of that profile."""
    peak = 10 ** random.uniform(0, 3.5)
    slowest = 10 ** random.uniform(-0.5, 2)
    steps = random.choice([(1, 1, 1), (1.01, 1.02, 1.01), (1.5, 3, 2), (20, 5, 8), (1, 40, 1.1)])
    rates = [slowest, *np.cumprod(steps) * slowest]
    levels = ("memory", "L3", "L2", "L1")[: random.randint(1, 4)]
    machine = found.machine.model_copy(update={"readings": tuple(
        Reading(level=level, span=1, gigabytes=Spread.of_rates([rate]))
        for level, rate in zip(levels, rates, strict=False))})  # fmt: skip
    layers = []
    kinds = random.sample(list(COLOURS), random.randint(1, len(COLOURS)))
    for _ in range(random.randint(1, 40)):
        intensity = 10 ** random.uniform(-1.5, 2.5)
        rate = min(peak, intensity * rates[len(levels) - 1]) * random.uniform(0.01, 1)
        layers.append(found.layers[0].model_copy(update={
            "intensity": intensity, "rate": rate, "of_ideal": 0.5, "kind": random.choice(kinds),
            "share": random.random() ** 4}))  # fmt: skip
    changed = {"machine": machine, "peak": peak, "layers": tuple(layers), "contradicted": ()}
    return roofline_chart(found.model_copy(update=changed))


def test_no_text_of_a_roofline_chart_overprints_another(figures):
    found = Report.model_validate(figures).find(LayerProfile)
    random = Random(0)
    beside = 0
    for case in range(400):
        svg = drawn(found, random)
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
        texts = texts_of(svg)
        names = [text for text, _ in texts]
        for i, (text, box) in enumerate(texts):
            assert box.within(Rectangle(0, 0, width + 1, height)), (case, text)
            for other, second in texts[:i]:
                assert not box.meets(second), (case, text, other)
        (peak,) = re.findall(r'points="\S+,(\S+) \S+" class="roof"', svg)
        for text, box in texts:
            assert "GB/s" not in text or not box.top < float(peak) < box.bottom, (case, text)
        beside += sum("GB/s" in name for name in names)
        assert sum("peak" in name for name in names) == 1
    assert beside > 600  # they are all there


def test_a_busy_machine_is_in_the_headline_and_no_ratio_is_shown_as_a_result(figures):
    report = Report.model_validate(figures)
    comparison, profile, baseline = map(report.find, (Comparison, LayerProfile, Baseline))
    calm = {"disturbed": ""}
    quiet = report.adding(*(x.model_copy(update=calm) for x in (comparison, profile, baseline)))
    busy = {"disturbed": "other programs took 64% of the cores' time"}
    page = render_page(quiet.adding(comparison.model_copy(update=busy)))
    calm_page = render_page(quiet)
    head = page[: page.index("What was requested")]
    assert "(busy machine: times are no measurement)</title>" in page
    assert head.index("its times are not a measurement") < head.index('class="tiles"')
    assert "Timed beside other runtimes: other programs took 64%" in head
    assert "as fast as PyTorch" not in head
    assert 'class="tile first"' not in page
    assert "<h2>How fast it is: not measured, the machine was busy</h2>" in page
    assert "<h2>Where the time goes</h2>" in page  # that was a quiet minute
    assert "as fast as PyTorch" in calm_page
    assert "busy" not in calm_page
    page = render_page(quiet.adding(profile.model_copy(update=busy)))
    assert "<h2>Where the time goes: not measured, the machine was busy</h2>" in page
    assert "its times are not a measurement" in page


def test_words_name_shapes_that_are_alike_in_the_dark(page):
    assert "black" not in page[page.index("<body>") :].replace("its own black to its own white", "")


def test_the_cards_of_the_picture_cover_it_and_cut_none(figures):
    svg = figures["stages"]["count"]["picture"]
    cards = [list(map(float, box.split())) for box in cut_into_cards(svg)]
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) ([0-9.]+)', svg).groups())
    assert sum(tall for *_, tall in cards) == pytest.approx(height)
    assert {(x, wide) for x, _, wide, _ in cards} == {(0.0, width)}
    tops = [top for _, top, _, _ in cards]
    drawn = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"[^>]*class="card"', svg)
    assert 1 <= len(cards) <= len(drawn)
    for y, tall in drawn:
        assert not any(float(y) < top < float(y) + float(tall) for top in tops)
    assert cut_into_cards("<svg></svg>") == []


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("blocks.0.expand.conv", "blocks.<wbr>0.<wbr>expand.<wbr>conv"),
        ("separable_convolution", "separable_<wbr>convolution"),
        ("depthwiseBlock2", "depthwise<wbr>Block2"),
        ("a<b", "a&lt;b"),
    ],
)
def test_names_break_where_a_reader_would_break_them(name, printed):
    assert str(path(name)) == printed


def test_a_roof_without_a_place_is_named_below():
    roofs = [Roof((0.0, 100.0), (100.0, 0.0), f"L{i} 1 GB/s") for i in range(40)]
    room = Rectangle(0, 0, 100, 100)
    found = place_names(roofs, room, [], [], 9)
    boxes = [
        text_box(*place, roof.name, 9) for place, roof in zip(found, roofs, strict=True) if place
    ]
    assert 2 <= len(boxes) < 40
    assert all(box.within(room) for box in boxes)
    assert not any(a.meets(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_library_that_cannot_run_here_has_a_report_too(tmp_path):
    request = make_request(tmp_path, build=CompileOptions(target="wasm32"))
    ship(request, make_network())
    page = (request.directory / "report.html").read_text()
    assert "Not verified: this machine cannot run a library for wasm32" in page
    read(page)


# ------------------------------------------------------------------------------------- browser

PROBE = """<script>
const errors = [];
addEventListener("error", event => errors.push(event.message || event.target.outerHTML), true);
addEventListener("load", () => {
  const broken = [...document.images].filter(image => !image.complete || !image.naturalWidth);
  const wide = document.documentElement.scrollWidth > innerWidth;
  const found = {images: document.images.length, broken: broken.length, errors, wide};
  document.documentElement.setAttribute("data-found", JSON.stringify(found));
});
</script>"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("NO BROWSER: the report was NOT SHOWN in one; install chromium")
    base = tmp_path_factory.mktemp("browser")

    def show(page, width=1100):
        file = base / "page.html"
        file.write_text(page.replace("<head>", f"<head>{PROBE}", 1))
        done = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
             f"--user-data-dir={base / 'profile'}", f"--window-size={width},900", "--dump-dom",
             file.as_uri()],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        found = re.search(r'data-found="([^"]*)"', done.stdout)
        assert found, "the page did not load"
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return json.loads(found[1].replace("&quot;", '"')) | {"console": said}

    return show


@pytest.mark.parametrize("width", [500, 1100])
def test_a_browser_shows_it_without_an_error(page, browse, width):
    found = browse(page, width)
    assert found["images"] >= 2 + 4 + 1  # photographs, feature maps, the network
    assert (found["broken"], found["errors"], found["console"]) == (0, [], [])
    assert not found["wide"]  # nobody has to scroll sideways


def test_what_is_broken_would_be_seen(page, browse):
    broken = '<img src="data:image/png;base64,AAAA"><script>nothing()</script></body>'
    found = browse(page.replace("</body>", broken))
    assert found["broken"] == 1
    assert "nothing is not defined" in " ".join(found["errors"])
    assert "nothing is not defined" in " ".join(found["console"])
