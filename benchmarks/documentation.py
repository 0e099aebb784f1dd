"""Long documents that every machine has: what Python's packages say of themselves.

One document a module: pages of the standard library as pydoc prints them, and, of other installed
packages, all docstrings of a module in the order of the file. A document's title (the first line
of the module's docstring, with the module's name) is held back from its text, to serve as a query.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_paths

from unabridged.cli.standard_library import write_all

PACKAGES = (
    "IPython", "PIL", "accelerate", "bs4", "datasets", "faiss", "fontTools", "hypothesis",
    "jinja2", "joblib", "lancedb", "markdown", "matplotlib", "mkdocs", "mpmath", "mypy",
    "networkx", "numpy", "ot", "pandas", "pip", "pyarrow", "pydantic", "pygments", "pytest",
    "_pytest", "requests", "rich", "scipy", "sentence_transformers", "setuptools", "skimage",
    "sklearn", "statsmodels", "sympy", "torch", "transformers", "typer", "huggingface_hub",
    "tokenizers", "regex", "click", "yaml", "urllib3", "watchdog", "anyio", "httpx", "fsspec",
    "captum", "trak", "nltk", "pyparsing",
)  # fmt: skip
LEFT_OUT = ("tests", "_vendor", "vendored", "testing", "extern", "externals")
MOST_OF_A_PACKAGE = 120


@dataclass(frozen=True)
class Page:
    """One document.

    Attributes:
        name: of the module.
        title: what it says of itself in one line; not in the text.
        text: all the rest.
    """

    name: str
    title: str
    text: str


def pages(cache: Path, *, shortest: int = 4_000) -> list[Page]:
    """All documents of at least so many characters, in the order of their names, no two alike."""
    found = {page.name: page for page in (*_standard_library(cache), *_installed())}
    seen: set[str] = set()
    kept = []
    for name in sorted(found):
        page = found[name]
        digest = hashlib.sha256(page.text[:2000].encode()).hexdigest()
        if len(page.text) >= shortest and len(page.title) >= 20 and digest not in seen:
            seen.add(digest)
            kept.append(page)
    return kept


def _standard_library(cache: Path) -> Iterator[Page]:
    for path in sorted(write_all(cache).glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        name = re.search(r"^NAME\n    (.+(?:\n    .+)*)\n", text, re.MULTILINE)
        if name and " - " in name[1]:
            title = " ".join(name[1].split())
            yield Page(path.stem, title, text[name.end() :].strip())


def _installed() -> Iterator[Page]:
    site = Path(get_paths()["purelib"])
    for package in PACKAGES:
        sources = sorted((site / package).rglob("*.py"))
        sources = [s for s in sources if not set(s.parts) & set(LEFT_OUT)]
        made = [page for source in sources if (page := _page(source, site))]
        made.sort(key=lambda page: hashlib.sha256(page.name.encode()).hexdigest())
        long = [page for page in made if len(page.text) >= 4_000]
        yield from long[:MOST_OF_A_PACKAGE]


def _page(source: Path, site: Path) -> Page | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    own = ast.get_docstring(tree) or ""
    name = ".".join(source.relative_to(site).with_suffix("").parts).removesuffix(".__init__")
    first, _, rest = own.strip().partition("\n")
    if len(first) < 15:
        first, rest = _first_sentence(tree), own
    title = f"{name.rpartition('.')[2].strip('_')} - {first.strip()}" if first else ""
    return Page(name, title, "\n\n".join([rest.strip(), *_docstrings(tree, "")]).strip())


def _first_sentence(tree: ast.Module) -> str:
    """Of the module's first documented class or function."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            words = (ast.get_docstring(node) or "").strip().partition("\n")[0]
            if len(words) >= 15:
                return words
    return ""


def _docstrings(node: ast.AST, prefix: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = ast.get_docstring(child)
            if words:
                yield f"{prefix}{child.name}\n{words}"
            yield from _docstrings(child, f"{prefix}{child.name}.")
