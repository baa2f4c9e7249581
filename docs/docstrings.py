"""For mkdocstrings: docstrings of this package as Markdown, and the signatures of its dataclasses and named tuples.

A griffe extension, named in ``mkdocs.yml``. ``::`` and the indented block after it become a fenced block; a name in
single backquotes becomes a link where the documentation has it; what `pretrain.struct.dataclass` and `NamedTuple` take
is read from their fields.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

NAME = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)`(?!`)")
ONE_LINE = re.compile(r"^(\s*)(Attributes|Raises): +(\S.*)$")
"""Sections of one line, which griffe would take for the titles of admonitions."""


def fenced(text: str) -> str:
    """The text with ``::`` blocks fenced."""
    out: list[str] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.rstrip().endswith("::"):
            out.append(line)
            continue
        margin, end = _indent(line), at
        while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > margin):
            end += 1
        block = textwrap.dedent("\n".join(lines[at:end])).strip("\n").splitlines()
        if not block:
            out.append(line)
            continue
        before = line.rstrip().removesuffix("::")
        out += [before + ":", ""] if before.strip() else []
        kind = "python" if any(word in block[0] for word in ("import ", "def ")) else "text"
        out += [" " * margin + inner for inner in (f"```{kind}", *block, "```")]
        out += [""]
        at = end
    return "\n".join(out)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def linked(text: str, place: griffe.Object) -> str:
    """The text with names in single backquotes as links to what they name, seen from ``place``."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        path = name if name.startswith("pretrain.") else _resolved(name, place)
        return match[0] if path is None else f'<autoref identifier="{path}" optional>`{name}`</autoref>'

    parts = re.split(r"(^\s*```.*?^\s*```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.lstrip().startswith("```") else NAME.sub(link, part) for part in parts)


def _resolved(name: str, place: griffe.Object) -> str | None:
    first, *others = name.split(".")
    try:
        path = place.resolve(first)
    except griffe.NameResolutionError:
        return None
    return ".".join((path, *others)) if path.startswith("pretrain.") else None


class Docstrings(griffe.Extension):
    """What is described above, once the whole package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrites every docstring and gives every class of fields its signature."""
        self._visit(pkg)

    def _visit(self, part: griffe.Object) -> None:
        if part.docstring is not None:
            text = "\n".join(ONE_LINE.sub(r"\1\3", line) for line in part.docstring.value.splitlines())
            if part.is_function and ONE_LINE.match(part.docstring.value):
                text = part.docstring.value.replace("Raises: ", "Raises ", 1)
            part.docstring.value = linked(fenced(text), part)
        if part.is_class:
            _sign(part)  # type: ignore[arg-type]
        for member in list(part.members.values()):
            if not member.is_alias:
                self._visit(member)  # type: ignore[arg-type]


def _sign(part: griffe.Class) -> None:
    """Gives a class of fields, its own and those it inherits, an ``__init__`` to show."""
    try:
        family = [*reversed(part.mro()), part]
    except ValueError:
        family = [part]
    if "__init__" in part.members or not any(map(_has_fields, family)):
        return
    fields: dict[str, griffe.Parameter] = {}
    for owner in filter(_has_fields, family):
        fields |= {name: field for name, member in owner.members.items() if (field := _field(name, member))}
    init = griffe.Function("__init__", parameters=griffe.Parameters(*fields.values()), returns=None)
    part.set_member("__init__", init)


def _has_fields(part: griffe.Class) -> bool:
    decorated = any(str(decorator.value).startswith("struct.dataclass") for decorator in part.decorators)
    return decorated or any(str(base) == "NamedTuple" for base in part.bases)


def _field(name: str, member: Any) -> griffe.Parameter | None:
    if member.is_alias or not member.is_attribute or member.annotation is None or "property" in member.labels:
        return None
    if "class-attribute" in member.labels and "instance-attribute" not in member.labels:
        return None  # ClassVar
    default = member.value
    if isinstance(default, griffe.ExprCall) and str(default.function) == "struct.field":
        given = {each.name: each.value for each in default.arguments if isinstance(each, griffe.ExprKeyword)}
        default = given.get("default")
        if "default_factory" in given:
            default = f"{given['default_factory']}()"
    kind = griffe.ParameterKind.positional_or_keyword
    return griffe.Parameter(name, annotation=member.annotation, kind=kind, default=default)
