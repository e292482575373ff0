"""Writes docs/reference.md, the public names and their docstrings: ``make reference``.

    python tools/make_reference.py           # writes the page
    python tools/make_reference.py --check   # is the page what the docstrings say?

Reads the source files and imports nothing of the package, so it needs no TensorFlow.
The public names are those of ``_HOME`` in ``hub_compat/__init__.py``.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference.md"
# What a module makes when it is asked for, and the function that makes it.
_MADE = {
    "ImageModuleInfo": "_image_module_info",
    "LatestModuleExporter": "_LatestModuleExporter",
}
# A name whose module is the package itself, and the module that has it.
_MODULES = {"KerasLayer": "hub_compat.keras3"}
_RESULTS = "hub_compat.formats"
_ERRORS = "hub_compat.errors"
_SECTION = re.compile(r"^(Args|Attributes|Example|Raises|Returns)::?$")
# Sections of names, each with what is to say of it.
_LISTS = ("Args", "Attributes", "Raises")
_ENTRY = re.compile(r"^ {2}(\S[^:]*): (.*)$")


class Definition(NamedTuple):
    """A function or class, and the file that it is in.

    Attributes:
      node: its syntax tree.
      lines: of the file.
      module: ``"hub_compat.loader"``.
    """

    node: Any
    lines: List[str]
    module: str


def source_of(module: str) -> Tuple[Any, List[str]]:
    """The syntax tree of a module, and its lines."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    return ast.parse(text), text.splitlines()


def find(module: str, name: str) -> Definition:
    """The definition of a name, in the module or where that imports it from."""
    tree, lines = source_of(module)
    for node in tree.body:
        if getattr(node, "name", None) == name:
            return Definition(node, lines, module)
        if isinstance(node, ast.ImportFrom) and not node.level:
            if name in [alias.asname or alias.name for alias in node.names]:
                return find(str(node.module), name)
    raise KeyError("{} has no {}".format(module, name))


def public() -> Dict[str, str]:
    """The public names and their modules."""
    tree, _ = source_of("hub_compat")
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == (
            "_HOME"
        ):
            found: Dict[str, str] = ast.literal_eval(node.value)
            return dict(found, **_MODULES)
    raise KeyError("hub_compat/__init__.py has no _HOME")


def docstring(definition: Definition) -> str:
    """The docstring, also of a class that takes that of another one."""
    found = ast.get_docstring(definition.node)
    if found:
        return found
    for node in definition.node.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == (
            "__doc__"
        ):
            other = node.value.value.id  # type: ignore[attr-defined]
            return docstring(find(definition.module, other))
    return ""


def signature(definition: Definition, name: str = "") -> str:
    """The source of a signature, up to its colon, without ``def`` and ``self``."""
    # Python 3.7 gives the line of the decorator.
    start = definition.node.lineno - 1
    while not definition.lines[start].lstrip().startswith("def "):
        start += 1
    taken: List[str] = []
    for line in definition.lines[start:]:
        taken.append(line)
        text = "\n".join(taken)
        if text.count("(") == text.count(")") and line.endswith(":"):
            break
    text = inspect.cleandoc("\n".join(taken))[len("def ") : -1]
    if name:
        text = re.sub(r"^__init__", name, text)
        text = re.sub(r"\n\s*self,|(?<=\()self(, )?", "", text)
        text = re.sub(r" -> None$", "", text)
    return text


def markdown(text: str) -> List[str]:
    """A docstring of Google's style as Markdown."""
    lines = text.splitlines()
    found: List[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        end = at + 1
        while end < len(lines) and (not lines[end] or lines[end].startswith("  ")):
            end += 1
        inner = lines[at + 1 : end]
        section = _SECTION.match(line)
        if section is not None:
            found += ["", "**{}**".format(section.group(1)), ""]
        if section is not None and section.group(1) in _LISTS:
            found += _entries(inner)
        elif section is not None and not line.endswith("::"):
            found += [_words(each.strip()) for each in inner]
        elif line.endswith(":") and inner and any(inner):
            found += ([] if section else [_words(line.rstrip(":") + ":")]) + ["", "```"]
            found += inspect.cleandoc("\n".join([""] + inner)).splitlines()
            found += ["```", ""]
        else:
            found += [_words(line)] + [_words(each) for each in inner]
        at = end
    return found


def _words(line: str) -> str:
    return line.replace("``", "`")


def _entries(lines: List[str]) -> List[str]:
    """The entries of a section as a list, and what stands beside them."""
    entries: List[str] = []
    for line in filter(None, lines):
        entry = _ENTRY.match(line)
        if entry is not None and not line.startswith("   "):
            names = ", ".join("`{}`".format(n) for n in entry.group(1).split(", "))
            entries.append("- {}: {}".format(names, _words(entry.group(2))))
        elif entries and line.startswith("    "):
            entries.append("  " + _words(line.strip()))
        else:
            entries += ["", _words(line.strip())]
    return entries


def _members(definition: Definition) -> Iterator[Any]:
    """The public methods and properties of a class."""
    for node in definition.node.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            if ast.get_docstring(node):
                yield definition._replace(node=node)


def of_class(definition: Definition, name: str) -> List[str]:
    """What the page says of a class."""
    found: List[str] = []
    methods = {getattr(node, "name", ""): node for node in definition.node.body}
    if "__init__" in methods:
        made = definition._replace(node=methods["__init__"])
        found += ["```python", signature(made, name), "```", ""]
    found += markdown(docstring(definition))
    values = [
        "`{}`".format(ast.literal_eval(node.value))
        for node in definition.node.body
        if isinstance(node, ast.Assign) and node.targets[0].id.isupper()
    ]
    names = [
        "`{}`".format(node.targets[0].id)
        for node in definition.node.body
        if isinstance(node, ast.Assign) and node.targets[0].id.isupper()
    ]
    if names:
        found += [""] + ["- {}: {}".format(n, v) for n, v in zip(names, values)]
    if name != "KerasLayer":
        for member in _members(definition):
            first = docstring(member).split("\n\n")[0].replace("\n", " ")
            found += ["", "`{}.{}`: {}".format(name, member.node.name, _words(first))]
    return found


def of_errors() -> List[str]:
    """What the page says of the module of errors."""
    tree, lines = source_of(_ERRORS)
    found = markdown(ast.get_docstring(tree) or "") + [""]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            first = docstring(Definition(node, lines, _ERRORS)).split("\n\n")[0]
            said = _words(first).replace("\n", " ")
            found.append("- `{}`: {}".format(node.name, said))
    return found


def page() -> str:
    """The page."""
    homes = public()
    lines = [
        "# Reference",
        "",
        "Written by `make reference` from signatures and docstrings: the public names",
        "of `hub_compat`, and parts of what they return. [Stability](stability.md)",
        "says what of it may change.",
    ]
    _, parts = source_of(_RESULTS)
    tree = ast.parse("\n".join(parts))
    others = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name not in homes
    ]
    for name in sorted(homes, key=lambda n: (n.lower(), n)):
        lines += ["", "## " + name, ""]
        if name == "errors":
            lines += of_errors()
            continue
        definition = find(homes[name], _MADE.get(name, name))
        if isinstance(definition.node, ast.ClassDef):
            lines += of_class(definition, name)
        elif name in _MADE:
            lines += markdown(docstring(definition))
        else:
            lines += ["```python", signature(definition), "```", ""]
            lines += markdown(docstring(definition))
    lines += ["", "## Parts of results"]
    for name in others:
        lines += ["", "### " + name, ""] + of_class(find(_RESULTS, name), name)
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return re.sub(r"\n{3,}", "\n\n", text)


def main(argv: List[str]) -> int:
    """The command line."""
    text = page()
    there = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if argv == ["--check"]:
        if text != there:
            print("docs/reference.md is not what docstrings say; `make reference`")
        return int(text != there)
    PAGE.write_text(text, encoding="utf-8")
    print("wrote {}".format(PAGE.relative_to(ROOT)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
