"""An SVG file as part of a page: smaller, with ids of its own, and in the page's colours.

Black becomes the colour of the text around it and white that of the page, so that a figure is as legible on a dark
page as on a light one. Coordinates are rounded to hundredths of a point. Pictures keep every pixel; they are stored
grey where they are grey, and unenlarged. The outlines of characters, which all figures draw with, a page has once.
"""

from __future__ import annotations

import base64
import io
import re
import zlib
from xml.etree import ElementTree

import numpy as np
from PIL import Image

COORDINATES = ("x", "y", "width", "height", "points")
COLOURS = {"#000000": "currentColor", "#ffffff": "var(--paper)", "#dddddd": "var(--grid)", "#0072b2": "var(--blue)"}
PNG = "data:image/png;base64,"
OUTLINE = re.compile(r'<path id="(g-[0-9a-f]+)" [^>]*/>')
"""A character's, named by what it is: matplotlib's own names mean another character in another version of it."""


def inlined(text: str, prefix: str, label: str) -> str:
    """The ``svg`` element of a file's text.

    Args:
        text: of the file, as matplotlib writes it.
        prefix: of its ids; no other figure of the page has it.
        label: what a screen reader says of it.
    """
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            if _name(child.tag) in ("metadata", "style"):
                parent.remove(child)
    referred = dict.fromkeys(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text))
    ids = {name: f"{prefix}-{number}" for number, name in enumerate(referred)}
    for path in root.iter("{http://www.w3.org/2000/svg}path"):
        if "-" in path.get("id", ""):  # of a font, in matplotlib's files
            what = f"{path.get('d')} {path.get('transform')}"
            ids[path.attrib["id"]] = f"g-{zlib.crc32(what.encode()):x}"
    for element in root.iter():
        element.tag = _name(element.tag)
        element.text = element.tail = None
        old = dict(element.attrib)
        element.attrib.clear()
        for name, value in old.items():
            if (name := _name(name)) != "id":
                element.set(name, _value(name, value, ids))
            elif value in ids:
                element.set("id", ids[value])
        if element.tag == "image":
            element.set("style", "image-rendering:pixelated")
    for parent in root.iter():
        for child in list(parent):
            if child.tag == "defs" and not len(child):
                parent.remove(child)
    view = root.get("viewBox", "")
    root.attrib.clear()
    width = float(view.split()[2]) / 12  # 12 points are 1 rem of 16 pixels
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": label, "style": f"--width:{width:.4g}rem"})
    return ElementTree.tostring(root, encoding="unicode")


def outlined(figures: str) -> str:
    """The figures of a page with every character's outline at its start, once, and nowhere else."""
    outlines = {found[1]: found[0] for found in OUTLINE.finditer(figures)}
    if not outlines:
        return figures
    rest = re.sub(r"<defs></defs>|<defs />", "", OUTLINE.sub("", figures))
    drawn = "".join(outlines.values())
    return f'<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>{drawn}</defs></svg>\n{rest}'


def _name(qualified: str) -> str:
    """Without its namespace, of which a page has no need."""
    return qualified.rpartition("}")[2]


def _value(name: str, value: str, ids: dict[str, str]) -> str:
    if name == "d":
        return re.sub(r" ?([A-Za-z]) ?", r"\1", rounded(" ".join(value.split())))
    if name in COORDINATES:
        return rounded(value)
    if name == "transform":  # factors of scale(...) are small numbers that count
        return re.sub(r"translate\([^)]*\)", lambda found: rounded(found[0]), value)
    if value.startswith(PNG):
        return PNG + base64.b64encode(slim(base64.b64decode(value.removeprefix(PNG)))).decode()
    if name == "style":
        value = re.sub(r"#[0-9a-f]{6}", lambda found: COLOURS.get(found[0], found[0]), value)
        value = value.replace("; ", ";").replace(": ", ":")
    return re.sub(r"(?<=#)[^)]+", lambda found: ids.get(found[0], found[0]), value)


def rounded(text: str) -> str:
    """The numbers of a text to two decimals."""
    return re.sub(r"-?\d+\.\d+", lambda found: f"{round(float(found[0]), 2) + 0.0:.15g}", text)


def slim(png: bytes) -> bytes:
    """The same picture in fewer bytes: enlarged pixels are one pixel again, and grey is one channel."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    times = next((n for n in range(12, 1, -1) if _enlarged(pixels, n)), 1)
    pixels = np.ascontiguousarray(pixels[::times, ::times])
    seen = pixels[..., 3] > 0
    unused = sorted(set(range(256)) - set(pixels[seen][:, 0].tolist()))
    file = io.BytesIO()
    if unused and (pixels[..., :1] == pixels[..., :3]).all() and set(np.unique(pixels[..., 3])) <= {0, 255}:
        grey = np.where(seen, pixels[..., 0], np.uint8(unused[0]))
        Image.fromarray(grey).save(file, "PNG", optimize=True, transparency=unused[0])
    else:
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def _enlarged(pixels: np.ndarray, times: int) -> bool:
    """Whether every pixel was repeated so many times both ways."""
    height, width = pixels.shape[:2]
    if height % times or width % times:
        return False
    return bool((pixels[::times, ::times].repeat(times, 0).repeat(times, 1) == pixels).all())
