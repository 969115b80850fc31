"""The corpus `python-docs`: the documentation that lies inside the Python that runs the kit. It needs no download.

About 2 MB of English. One document is a topic of the language reference (what `help("assignment")` prints), a class of the standard
library with its methods, or a function, each docstring under a line such as `random.Random.shuffle(x)`; and one document per module
holds its introduction with the definitions that are too short to stand alone. Modules are parsed with `ast` and never imported,
since importing some of them has effects (`antigravity` opens a browser).

Text that stands here twice would be known to a model before it is held out, and make it look better than it is. So a docstring
longer than `REPEATED_CHARACTERS` is kept where it stands first, and a topic that is mostly part of longer topics is left out.
The text belongs to the Python Software Foundation (PSF licence) and differs a little from one Python version to the next.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from gpt_kit.data.pieces import Document

NAME = "python-docs"
REPEATED_CHARACTERS = 80
"""Docstrings and paragraphs longer than this are text of their own; shorter ones ("See base class.") may repeat."""
SMALLEST_DOCUMENT = 200
"""Characters below which a definition goes into its module's document, and such a document is left out: too little to teach."""
LONGEST_SIGNATURE = 100
"""Characters of a signature; longer ones end in `...`."""

# Not documentation: other people's packages, tests, games drawn by a turtle, and the topics, which are read on their own.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "turtledemo", "ensurepip", "pydoc_data", "__pycache__"}
_Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
# Definitions also stand below these: a class chosen by platform, a fallback after a failed import.
_Branch = ast.If | ast.Try | ast.ExceptHandler | ast.With


def read_python_docs() -> Iterator[Document]:
    """The documents of the corpus, topics first, each part sorted by name: the same for every run on one Python.

    Nothing is yielded by a Python that comes without its sources (some embedded ones).
    """
    yield from _topic_documents(_language_topics())
    library = Path(sysconfig.get_path("stdlib"))
    kept: set[str] = set()
    for file in _module_files(library):
        name = _module_name(file.relative_to(library))
        for title, text in _module_documents(name, file.read_bytes(), kept):
            yield Document(text, f"{NAME}/{title}")


def _language_topics() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions pack it separately
        return {}
    return dict(topics)


def _topic_documents(topics: dict[str, str]) -> Iterator[Document]:
    """The topics by name, without those of which more than half stands in longer ones ("if" is part of "compound")."""
    paragraphs: set[str] = set()
    kept = []
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        # Compared word by word: a part may be indented otherwise than the whole.
        own = {words for part in topics[name].split("\n\n") if len(words := " ".join(part.split())) > REPEATED_CHARACTERS}
        if sum(map(len, own & paragraphs)) * 2 <= sum(map(len, own)):
            kept.append(name)
            paragraphs |= own
    for name in sorted(kept):
        yield Document(f"{name}\n\n{topics[name].strip()}\n", f"{NAME}/topics/{name}")


def _module_files(library: Path) -> list[Path]:
    found = []
    for folder, subfolders, names in os.walk(library):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


def _module_name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def documented_members(module: str, source: bytes) -> Iterator[tuple[str, str]]:
    """(header, docstring) of every class, function and method of a module's source."""
    parsed = _parsed(source)
    if parsed is not None:
        yield from ((header, inspect.cleandoc(docstring or "")) for header, docstring in _members(parsed, module))


def _parsed(source: bytes) -> ast.Module | None:
    """None for what has no docstring of several lines, or is no Python."""
    if b'"""' not in source and b"'''" not in source:
        return None  # one-line docstrings at most; not parsing these files saves a tenth of the time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own: an invalid escape is none of our reader's business
            return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def _module_documents(name: str, source: bytes, kept: set[str]) -> Iterator[tuple[str, str]]:
    """(title, text): the module's introduction, then its classes and functions. Adds the docstrings it keeps to `kept`."""
    module = _parsed(source)
    if module is None:
        return
    texts: dict[str, str] = {name: f"{name}\n"}
    for title, docstring in itertools.chain([(name, ast.get_docstring(module, clean=False))], _members(module, name)):
        # "\f" parts the pages of some old sources; a lone surrogate in an example could not be written as UTF-8.
        text = inspect.cleandoc(docstring or "").replace("\f", "").encode(errors="replace").decode().rstrip()
        if not text or text in kept:
            continue
        if len(text) > REPEATED_CHARACTERS:
            kept.add(text)
        section = f"{text}\n" if title == name else f"{title}\n\n{text}\n"
        owner = _owner(title, name)
        texts[owner] = f"{texts[owner]}\n{section}" if owner in texts else section
    for owner in [owner for owner, text in texts.items() if len(text) < SMALLEST_DOCUMENT and owner != name]:
        texts[name] += f"\n{texts.pop(owner)}"
    yield from ((owner, text) for owner, text in texts.items() if len(text) >= SMALLEST_DOCUMENT and text != f"{name}\n")


def _owner(title: str, module: str) -> str:
    """The module-level definition that a header belongs to: `random.Random` for `random.Random.shuffle(x)`."""
    path = title.removeprefix("class ").partition("(")[0].removeprefix(module).lstrip(".")
    return f"{module}.{path.partition('.')[0]}" if path else module


def _members(node: ast.AST, prefix: str) -> Iterator[tuple[str, str | None]]:
    """(header, docstring) of every class, method and function below `node`; functions inside functions are no interface."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Documented):
            docstring = ast.get_docstring(child, clean=False)
            if docstring:
                yield _header(child, prefix, in_class=isinstance(node, ast.ClassDef)), docstring
            if isinstance(child, ast.ClassDef):
                yield from _members(child, f"{prefix}.{child.name}")
        elif isinstance(child, _Branch):
            yield from _members(child, prefix)


def _header(node: _Documented, prefix: str, *, in_class: bool) -> str:
    """`class random.Random(_random.Random)` or `random.Random.shuffle(x)`: as it is called, so without `self`."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(name for base in node.bases if (name := ast.unparse(base)) != "object")
        return f"class {prefix}.{node.name}" + (f"({_shortened(bases)})" if bases else "")
    arguments = node.args
    first = [*arguments.posonlyargs, *arguments.args][:1]
    if in_class and first and first[0].arg in ("self", "cls"):
        (arguments.posonlyargs or arguments.args).pop(0)
    return f"{prefix}.{node.name}({_shortened(ast.unparse(arguments))})"


def _shortened(arguments: str) -> str:
    if len(arguments) <= LONGEST_SIGNATURE:
        return arguments
    return arguments[:LONGEST_SIGNATURE].rpartition(", ")[0] + ", ..."
