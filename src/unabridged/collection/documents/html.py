"""HTML to text: blocks become lines, what a browser does not show is left out."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from unabridged._errors import DocumentError
from unabridged.collection.documents.document import Extract, squeeze
from unabridged.collection.documents.plain import decode

__all__ = ["TextOfHtml", "read_html"]

HIDDEN = frozenset({"script", "style", "template", "noscript", "svg", "math", "object"})
PARAGRAPHS = frozenset({
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "pre",
    "figure", "article", "section", "header", "footer", "aside", "main", "nav", "form", "hr",
})  # fmt: skip
LINES = frozenset({
    "br", "div", "li", "dt", "dd", "tr", "option", "figcaption", "caption", "address", "summary",
})  # fmt: skip
CELLS = frozenset({"td", "th"})
SPACES = re.compile(r"\s+")
CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
PIECE = 1 << 20


class TextOfHtml(HTMLParser):
    r"""Collects the text that a browser would show.

    White space collapses except in `pre`; a paragraph ends in a blank line, a list item or table
    row in a line, a table cell in a tab.

    >>> parser = TextOfHtml()
    >>> parser.feed("<h1>Rivers</h1><p>The  <b>Rhine</b><script>x()</script> &amp; the Aare.</p>")
    >>> parser.text()
    'Rivers\n\nThe Rhine & the Aare.'
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._pieces: list[str] = []
        self._break = ""  # owed before the next text: "", " ", tab, one or two newlines
        self._hidden: list[str] = []
        self._in_title = False
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a block, a hidden part, or the title."""
        self._in_title = tag == "title" and not self.title and not self._hidden
        if tag in HIDDEN:
            self._hidden.append(tag)
        self._preformatted += tag == "pre"
        self._block(tag)
        if tag == "img":
            self.handle_data(f" {dict(attrs).get('alt') or ''} ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself, as in XHTML."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close what the start tag opened."""
        self._in_title = self._in_title and tag != "title"
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        self._preformatted -= tag == "pre" and self._preformatted > 0
        self._block(tag)

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        if self._in_title:
            self.title += data
        if self._hidden or self._in_title:
            return
        if self._preformatted:
            self._emit(data)
            return
        text = SPACES.sub(" ", data)
        if text.startswith(" "):
            self._owe(" ")
        if stripped := text.strip():
            self._emit(stripped)
            if text.endswith(" "):
                self._owe(" ")

    def text(self) -> str:
        """Everything collected so far."""
        return "".join(self._pieces)

    def _block(self, tag: str) -> None:
        if tag in PARAGRAPHS:
            self._owe("\n\n")
        elif tag in LINES:
            self._owe("\n")
        elif tag in CELLS:
            self._owe("\t")

    def _owe(self, separator: str) -> None:
        # Ordered by strength: "" < "\t" < "\n" < "\n\n", and a space yields to all of them.
        if self._break in {"", " "} or (separator != " " and separator > self._break):
            self._break = separator

    def _emit(self, text: str) -> None:
        if self._pieces:
            self._pieces.append(self._break)
        self._break = ""
        self._pieces.append(text)


def read_html(data: bytes) -> Extract:
    """Text and title of an HTML page; its own `charset` is believed before any guess.

    Raises:
        DocumentError: no text in any known encoding, or nothing that a browser would show.
    """
    source, metadata = _decode(data)
    parser = TextOfHtml()
    for start in range(0, len(source), PIECE):
        parser.feed(source[start : start + PIECE])
    parser.close()
    text = parser.text()
    if not text.strip():
        raise DocumentError("is a page without text; it may be filled in by scripts")
    if title := squeeze(parser.title):
        metadata["title"] = title
    return Extract(text, metadata)


def _decode(data: bytes) -> tuple[str, dict[str, str]]:
    declared = CHARSET.search(data[:4096])
    if declared:
        encoding = declared[1].decode("ascii", "replace").lower()
        # The WHATWG standard: pages that say Latin-1 mean windows-1252.
        encoding = "cp1252" if encoding in {"iso-8859-1", "latin1", "latin-1"} else encoding
        try:
            return data.decode(encoding), {"encoding": encoding}
        except (UnicodeDecodeError, LookupError):
            pass  # the page is wrong about itself, so look at its bytes instead
    extract = decode(data)
    return extract.text, extract.metadata
