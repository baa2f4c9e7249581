"""The page of all results: whole, self-contained, as accessible as its text can tell, and the same bytes each time."""

import base64
import dataclasses
import hashlib
import io
import itertools
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_render import EXPERIMENT, PLAN, result, written

from benchmarks.__main__ import EXPERIMENTS, main
from benchmarks.experiment import Published, Row, declaration_hash
from benchmarks.inline import inlined, outlined, rounded, slim
from benchmarks.outcomes import BETTERED, MET, MISSED, failed, found, outcome
from benchmarks.page import blocks
from benchmarks.report import report
from benchmarks.summary import Summary, summary
from benchmarks.tasks.likelihood import Likelihood

COMMITTED = Path(__file__).parent.parent / "paper_tables"
HOSTILE = Row("x", "a <b>bold</b> \"row\" & 'more'", Published(test=1.0, source="<i>A</i> & B"), {"quick": PLAN})
TOY = dataclasses.replace(EXPERIMENT, question="Is a & b < c?", rows=(*EXPERIMENT.rows, HOSTILE))


class Page(HTMLParser):
    """What the tests look at: tags with their attributes, ids, headings, references, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that opens."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """The end of a cell parts its words from the next one's."""
        self.words += [" "] if tag in ("td", "th") else []

    def handle_data(self, data: str) -> None:
        """Text."""
        self.words.append(data)

    def all(self, *names: str) -> list[dict[str, str]]:
        """The attributes of all tags of these names."""
        return [attributes for tag, attributes in self.tags if tag in names]

    def values(self, *names: str) -> list[str]:
        """The values of these attributes."""
        return [attributes[name] for _, attributes in self.tags for name in names if name in attributes]

    @property
    def text(self) -> str:
        """All text, spaces in one."""
        return " ".join("".join(self.words).split())


def page_of(tmp_path: Path, *lines: dict[str, Any]) -> str:
    """The page over these results of `TOY`."""
    (tmp_path / "toy").mkdir(exist_ok=True)
    written(tmp_path / "toy" / "quick", *lines)
    return report({"toy": TOY}, tmp_path)


@pytest.fixture(scope="module")
def committed() -> tuple[str, Page]:
    """The committed page."""
    text = (COMMITTED / "index.html").read_text(encoding="utf-8")
    return text, Page(text)


def without_pixels(text: str) -> str:
    """The text with every picture as a sum of its pixels, which are the same however they are compressed."""

    def told(picture: re.Match[str]) -> str:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture[1]))).convert("RGBA"))
        return hashlib.sha256(pixels.tobytes() + repr(pixels.shape).encode()).hexdigest()

    return re.sub(r"data:image/png;base64,([^\"]*)", told, text)


@pytest.mark.slow
def test_the_committed_page_is_what_the_committed_results_give(committed: tuple[str, Page]) -> None:
    again = without_pixels(report(EXPERIMENTS, COMMITTED)).splitlines()
    there = without_pixels(committed[0]).splitlines()
    apart = [(ours[:200], theirs[:200]) for ours, theirs in zip(again, there, strict=False) if ours != theirs]
    assert (len(again), apart) == (len(there), []), "run `python -m benchmarks report` and commit the page"


def test_every_experiment_with_results_has_a_section_and_an_entry(committed: tuple[str, Page]) -> None:
    text, page = committed
    names = {path.parent.parent.name for path in COMMITTED.glob("*/*/results.jsonl")}
    scales = {f"{path.parent.parent.name}-{path.parent.name}" for path in COMMITTED.glob("*/*/results.jsonl")}
    sections = {attributes["id"] for attributes in page.all("section")}
    assert sections == {"overview", *names} | ({"speed"} if (COMMITTED / "speed" / "results.jsonl").exists() else set())
    overview = Page(text[text.index('<section id="overview"') : text.index("</section>")])
    assert {target.removeprefix("#") for target in overview.values("href")} >= names | scales | (
        sections - {"overview"}
    )
    for name in names:
        assert EXPERIMENTS[name].question in page.text


def test_nothing_is_fetched_and_nothing_runs(committed: tuple[str, Page]) -> None:
    text, page = committed
    assert not page.all("script", "link", "iframe", "img", "object", "embed", "base")
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "srcset", "href", "xlink:href", "data", "action"):
            where = attributes.get(name, "#")
            allowed = ("#", "https://") if tag == "a" else ("#", "data:image/png;base64,") if tag == "image" else ("#",)
            assert where.startswith(allowed), (tag, where[:80])
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert len(text) < 6_000_000


def test_ids_are_unique_and_every_reference_resolves(committed: tuple[str, Page]) -> None:
    text, page = committed
    counts = Counter(page.values("id"))
    assert max(counts.values()) == 1
    targets = [target[1:] for target in page.values("href") if target.startswith("#")]
    assert {*targets, *re.findall(r"url\(#([^)]+)\)", text), *page.values("aria-labelledby")} <= set(counts)


def test_headings_tables_and_figures_say_what_they_are(committed: tuple[str, Page]) -> None:
    _, page = committed
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert page.all("html")[0]["lang"] == "en-GB"
    assert len(page.all("main")) == len(page.all("title")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in attributes for attributes in page.all("th"))
    regions = [attributes for attributes in page.all("div") if attributes.get("class", "").startswith("scroll")]
    figures = [attributes for attributes in page.all("svg") if "aria-hidden" not in attributes]
    assert len(figures) == len(page.all("svg")) - 1  # the outlines of characters
    assert len(regions) == len(page.all("table")) + len(figures)
    assert all(region["role"] == "region" and region["tabindex"] == "0" for region in regions)
    assert max(Counter(region["aria-label"] for region in regions).values()) == 1
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in figures)


def test_the_same_results_give_the_same_bytes_and_figures_are_drawn_where_there_are_none(tmp_path: Path) -> None:
    lines = [result(), result("deep", 0, 2.0), result("deep", 1, 3.0)]
    first = page_of(tmp_path, *lines)
    assert first == page_of(tmp_path, *lines)
    assert [path.name for path in (tmp_path / "toy" / "quick").iterdir()] == ["results.jsonl"]
    assert len(Page(first).all("svg")) == 3  # outlines of characters, validation curves and filters


def test_what_results_and_declarations_say_is_escaped(tmp_path: Path) -> None:
    page = Page(text := page_of(tmp_path, result("x", command='sh -c "<script>1 && 2</script>"', device="<u>cpu</u>")))
    assert not page.all("b", "script", "u", "i")
    for words in (HOSTILE.title, "Is a & b < c?", "<script>1 && 2</script>", "<u>cpu</u>", "<i>A</i> & B"):
        assert words in page.text
    assert "&lt;b&gt;bold&lt;/b&gt; &quot;row&quot; &amp; &#x27;more&#x27;" in text


def test_failures_are_told(tmp_path: Path) -> None:
    text = Page(page_of(tmp_path, result(test=None), result(seed=1, test=1.4), result(seed=2, test=1.6))).text
    assert "Not run: deep, other, x." in text
    assert "Diverged: 1 of the 3 seeds of srbm." in text
    assert "not run" in text
    assert "1 of 4 3 1 1 of 1" in text  # the overview: rows run, seeds a row, failed seeds, published figures met
    assert "Missed: srbm, 1.50 [1.28, 1.76] against 1.20 as published, +0.30." in Page(page_of(tmp_path, result())).text


def test_nothing_failed_is_said_too(tmp_path: Path) -> None:
    lines = [result(test=1.2), result("deep", test=2.2), result("other"), result("x", test=0.5)]
    text = Page(page_of(tmp_path, *lines)).text
    assert "Nothing: every row ran with all of its seeds" in text
    assert "Of the 3 published test figures 2 met, 1 bettered, 0 missed." in text
    assert "Nearest to what was published: srbm (+0.00); furthest from it: x (\N{MINUS SIGN}0.50)." in text


def row_of(published: float | None, *errors: float | None, **changes: Any) -> Summary:
    """One row's summary."""
    row = dataclasses.replace(EXPERIMENT.rows[0], published=Published(test=published))
    lines = [result(seed=seed, test=error, **changes) for seed, error in enumerate(errors)]
    return summary(dataclasses.replace(EXPERIMENT, rows=(row,)), lines)[0]


def test_outcomes_by_hand() -> None:
    """Of 1, 2, 3 the interval is 2 ± 2.48; of 2.0 on 10,000 images it is 1.74 to 2.29; without images none."""
    assert outcome(row_of(4.48, 1.0, 2.0, 3.0), False) == MET
    assert outcome(row_of(4.49, 1.0, 2.0, 3.0), False) == BETTERED
    assert outcome(row_of(4.49, 1.0, 2.0, 3.0), True) == MISSED
    assert outcome(row_of(1.74, 2.0), False) == MET
    assert outcome(row_of(1.73, 2.0), False) == MISSED
    assert outcome(row_of(1.73, 2.0), True) == BETTERED
    assert outcome(row_of(13.87, 13.8749, test_rows=None), False) == MET
    assert outcome(row_of(None, 2.0), False) is None
    assert outcome(row_of(1.0, None), False) is None


def test_a_larger_log_probability_is_better() -> None:
    experiment = dataclasses.replace(EXPERIMENT, task=Likelihood(), rows=EXPERIMENT.rows[:2])
    lines = [result(row, test_log_probability=value) for row, value in (("srbm", -80.0), ("deep", -90.0))]
    said = found(experiment, rows := summary(experiment, lines))
    assert said[-1].startswith("- The highest test log-probability: -80.00, SRBM")
    assert failed(experiment, "quick", rows)[0].startswith("- Missed: `srbm`, -80.00 against 1.20")


def test_a_question_renames_no_result() -> None:
    hashes = {declaration_hash(item, item.rows[0], "quick", PLAN) for item in (EXPERIMENT, TOY)}
    assert len(hashes) == 1
    assert all(experiment.question for experiment in EXPERIMENTS.values())


def test_markdown_becomes_headings_tables_and_lists() -> None:
    lines = ["## The claims", "", "Of `a` and **b** & <em>:", "", "| x | y |", "| - | -: |", "| 1 | 2 |", "", "- item"]
    text = blocks(lines, level=3)
    assert "<h5>The claims</h5>" in text
    assert "<code>a</code> and <strong>b</strong> &amp; &lt;em&gt;:" in text
    assert "<caption><span>The claims</span></caption>" in text
    assert re.search(r'<th scope="row">1</th>\s*<td style="text-align:right">2</td>', text)
    assert "<li>item</li>" in text


def test_an_inlined_figure_keeps_its_pixels_and_has_its_own_ids() -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (4, 5), dtype=np.uint8)
    image = np.stack([pixels] * 3 + [np.where(pixels < 20, 0, 255).astype(np.uint8)], -1)
    Image.fromarray(image.repeat(3, 0).repeat(3, 1)).save(file := io.BytesIO(), "PNG")
    back = np.asarray(Image.open(io.BytesIO(slim(file.getvalue()))).convert("RGBA"))
    np.testing.assert_array_equal(back[..., 3], image[..., 3])
    np.testing.assert_array_equal(back[image[..., 3] > 0], image[image[..., 3] > 0])
    data = base64.b64encode(file.getvalue()).decode()
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">'
        '<metadata>m</metadata><defs><clipPath id="clip"><rect x="1.23456" y="-0.001"/></clipPath></defs>'
        '<g id="unused"><path d="M 1.006 2 \nL 3 4.5 \nz" style="fill: #ffffff; stroke: #000000"/></g>'
        '<g clip-path="url(#clip)" transform="translate(1.23456 2) scale(0.015625 -1)"><use xlink:href="#clip"/></g>'
        f'<image xlink:href="data:image/png;base64,{data}"/></svg>'
    )
    svg = inlined(text, "fig", 'a "caption"')
    assert svg.startswith(
        '<svg viewBox="0 0 9 9" role="img" aria-label="a &quot;caption&quot;" style="--width:0.75rem">'
    )
    assert '<clipPath id="fig-0"><rect x="1.23" y="0" />' in svg
    assert '<path d="M1.01 2L3 4.5z" style="fill:var(--paper);stroke:currentColor" />' in svg
    assert '<g clip-path="url(#fig-0)" transform="translate(1.23 2) scale(0.015625 -1)"><use href="#fig-0" />' in svg
    assert "unused" not in svg
    assert "metadata" not in svg
    assert rounded("-0.004 12.3456 7") == "0 12.35 7"


def test_a_page_has_the_outline_of_a_character_once() -> None:
    """Named by what it is: the same name of two versions of matplotlib may be two characters."""

    def drawn(outline: str) -> str:
        return inlined(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">'
            f'<defs><path id="Sans-47" d="{outline}" transform="scale(0.01)"/></defs>'
            '<use xlink:href="#Sans-47"/></svg>',
            "fig",
            "",
        )

    page = outlined("".join(map(drawn, ("M 1 2", "M 3 4", "M 1 2"))))
    uses, paths = re.findall(r'<use href="#([^"]+)"', page), dict(re.findall(r'<path id="([^"]+)" d="([^"]+)"', page))
    assert [paths[name] for name in uses] == ["M1 2", "M3 4", "M1 2"]
    assert page.count("<path") == 2
    assert page.count("<defs>") == 1
    assert outlined("<p>none</p>") == "<p>none</p>"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes the page; without results it says so."""
    assert main(["report", "--out", str(tmp_path / "nowhere")]) == 2
    assert "there are no results under" in capsys.readouterr().err
    written(tmp_path / "mnist", result())
    written(tmp_path / "mnist" / "smoke", result())
    assert main(["report", "--out", str(tmp_path)]) == 0
    assert "Scale <code>smoke</code>" in (tmp_path / "index.html").read_text()


@pytest.mark.slow
def test_rendering_and_reporting_initialise_no_jax_backend(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, test_render as t\n"
        "from jax._src import xla_bridge\n"
        "from benchmarks.report import report\n"
        "t.render(t.EXPERIMENT, 'quick', pathlib.Path(sys.argv[1]) / 'toy' / 'quick')\n"
        "report({'toy': t.EXPERIMENT}, pathlib.Path(sys.argv[1]))\n"
        "sys.exit(xla_bridge.backends_are_initialized())\n"
    )
    (tmp_path / "toy").mkdir()
    written(tmp_path / "toy" / "quick", result())
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parent, check=True)
