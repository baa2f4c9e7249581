"""Pieces of an HTML page, as text: escaped, accessible, and without a script or anything that is fetched."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from markdown_it import MarkdownIt

STYLE = Path(__file__).parent / "page.css"
DOCUMENT = Template("""\
<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<a class="skip" href="#content">Skip to the results</a>
$body
</body>
</html>
""")
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
MARKDOWN.add_render_rule("table_open", lambda _, tokens, index, *__: _opened(**tokens[index].meta))
MARKDOWN.add_render_rule("table_close", lambda *_: CLOSED)
CLOSED = "</table></div>\n"


def document(title: str, body: Iterable[str]) -> str:
    """A whole page."""
    return DOCUMENT.substitute(title=escape(title), style=STYLE.read_text(encoding="utf-8"), body="\n".join(body))


def escape(text: str) -> str:
    """Text as a page shows it literally, in an attribute too."""
    return html.escape(text, quote=True)


def element(tag: str, content: str | Iterable[str] = "", **attributes: Any) -> str:
    """An element around what is HTML already; attributes are escaped, those of None left out, ``class_`` is class."""
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{said}>{content if isinstance(content, str) else ''.join(content)}</{tag}>"


def link(target: str, text: str) -> str:
    """To an element of the page by its id."""
    return element("a", escape(text), href=f"#{target}")


def inline(markdown: str) -> str:
    """One line of Markdown without a paragraph around it."""
    return MARKDOWN.renderInline(markdown)


def blocks(lines: Iterable[str], level: int = 0, caption: str = "", where: str = "") -> str:
    """Lines of Markdown.

    Args:
        lines: of headings, paragraphs, lists and tables; HTML in them is shown literally.
        level: how much lower its headings are on the page.
        caption: of a table above which no heading stands; others have the heading's.
        where: added to a heading's, so that no two tables of the page have the same.
    """
    tokens = MARKDOWN.parse("\n".join(lines))
    first = in_body = False
    for token, following in itertools.zip_longest(tokens, tokens[1:]):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + level, 6)}"
        if token.type == "heading_open" and following is not None:
            caption = following.content + where
        if token.type == "table_open":
            token.meta |= {"caption": caption, "class_": "scroll under"}  # the caption is that heading once more
        if token.type in ("tbody_open", "tbody_close"):
            in_body = token.type == "tbody_open"
        if token.type == "th_open":
            token.attrSet("scope", "col")
        if token.type == "tr_open":
            first = in_body
        if first and token.type in ("td_open", "td_close"):  # a line's first cell names it
            token.tag = "th"
            if token.type == "td_open":
                token.attrSet("scope", "row")
            first = token.type == "td_open"
    return MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})


def table(caption: str, head: Sequence[str], body: Iterable[str]) -> str:
    """A table that scrolls within its own region where it is wider than the page.

    Args:
        caption: above it, and the region's name.
        head: rows of the header.
        body: rows, or whole ``tbody`` elements.
    """
    lines = list(body)
    if not any(line.startswith("<tbody") for line in lines):
        lines = [element("tbody", "\n".join(lines))]
    return _opened(caption) + element("thead", head) + "\n" + "\n".join(lines) + CLOSED


def _opened(caption: str, class_: str = "scroll") -> str:
    name = escape(caption)
    return (
        f'<div class="{class_}" role="region" tabindex="0" aria-label="{name}"><table>'
        f"<caption><span>{name}</span></caption>\n"
    )


def details(summary: str, content: str) -> str:
    """Something long that is shown when asked for."""
    return element("details", element("summary", escape(summary)) + content)


def figure(drawing: str, caption: str, class_: str | None = None) -> str:
    """A drawing, which scrolls sideways where it would be too small to read, and its caption."""
    box = element("div", drawing, class_="scroll drawing", role="region", tabindex="0", aria_label=f"Figure: {caption}")
    return element("figure", box + element("figcaption", escape(caption)), class_=class_)
