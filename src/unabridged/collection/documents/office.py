"""Word documents and e-books: zip archives, unfolded only as far as a stated limit."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from unabridged._errors import DocumentError
from unabridged.collection.documents.document import Extract, squeeze
from unabridged.collection.documents.files import megabytes
from unabridged.collection.documents.html import TextOfHtml
from unabridged.collection.documents.plain import decode

__all__ = ["DOCX_MAX_XML", "read_docx", "read_epub"]

DOCX_MAX_XML = 40_000_000
"""Bytes of unfolded XML in a .docx; its converter builds trees of some ten times that size."""

# What zip, XML and the Word converter raise on damaged files; the converter trusts its input, so
# damage shows as whatever error the first wrong value causes.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, ElementTree.ParseError, ExpatError, EOFError, RecursionError,
    NotImplementedError, LookupError, ValueError, AttributeError, TypeError, OSError,
)  # fmt: skip

COMPOUND_FILE = b"\xd0\xcf\x11\xe0"
ENCRYPTED_MEMBER = 0x1
# Books scramble their fonts with these; the text stays readable.
FONT_SCRAMBLING = {
    "http://www.idpf.org/2008/embedding",
    "http://ns.adobe.com/pdf/enc#RC",
}


class Archive:
    """A zip archive that gives out at most `max_bytes` of unfolded data in its whole life."""

    def __init__(self, data: bytes, max_bytes: int) -> None:
        self._zip = zipfile.ZipFile(io.BytesIO(data))
        self._limit = self._left = max_bytes

    def names(self) -> list[str]:
        """Names of all members, as they are stored."""
        return self._zip.namelist()

    def read(self, name: str) -> bytes:
        """Unfold one member; KeyError if there is none of that name.

        The declared size is checked before and the real one while it is unfolded, so that an
        archive that lies costs no more memory than one that does not.
        """
        info = self._zip.getinfo(name)
        if info.flag_bits & ENCRYPTED_MEMBER:
            raise DocumentError("is encrypted and needs a password; save it without one")
        if info.file_size > self._left:
            raise self._too_large()
        with self._zip.open(info) as member:
            data = member.read(self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise self._too_large()
        return data

    def xml(self, name: str) -> ElementTree.Element:
        """Unfold and parse one member."""
        return ElementTree.fromstring(without_entities(self.read(name)))

    def _too_large(self) -> DocumentError:
        return DocumentError(
            f"unfolds to more than {megabytes(self._limit)}, the limit for its kind; "
            "it may be a zip bomb"
        )


def without_entities(xml: bytes) -> bytes:
    """XML that declares no entities, by which a few bytes could grow without bound."""
    if b"<!ENTITY" in xml:
        raise DocumentError("declares XML entities, which no word processor does")
    return xml


@contextmanager
def damage_reported(kind: str, data: bytes) -> Iterator[None]:
    """Turn the errors of damaged archives into a reason."""
    if data.startswith(COMPOUND_FILE):
        raise DocumentError(f"is encrypted, or an old binary file, not a {kind}")
    try:
        yield
    except DAMAGE as error:
        raise DocumentError(f"is no {kind}, or a damaged one ({error})") from error


def read_docx(data: bytes, *, max_bytes: int) -> Extract:
    """Text of a Word document: paragraphs, lists, tables, footnotes, comments; no pictures.

    Raises:
        DocumentError: no .docx, encrypted, damaged, too large when unfolded, or without text.
    """
    # Slow to import and wanted for few files only.
    import mammoth

    with damage_reported("Word document", data):
        archive = Archive(data, min(max_bytes, DOCX_MAX_XML))
        metadata = _docx_properties(archive)
        for name in archive.names():
            if name.endswith((".xml", ".rels")):
                without_entities(archive.read(name))
        html = mammoth.convert_to_html(
            io.BytesIO(data), convert_image=lambda _: [], include_embedded_style_map=False
        ).value
    text = _text_of(html).replace(" ↑", "")  # the converter's links back from footnotes
    return _with_text(text, metadata, "Word document")


def read_epub(data: bytes, *, max_bytes: int) -> Extract:
    """Text of an e-book: the parts of its spine in reading order, a blank line between two.

    Raises:
        DocumentError: no .epub, copy-protected, damaged, too large when unfolded, or without text.
    """
    with damage_reported("e-book", data):
        archive = Archive(data, max_bytes)
        _refuse_protected(archive)
        package_path = _package_path(archive)
        package = archive.xml(package_path)
        parts = [
            _text_of(_decode_part(archive.read(name))) for name in _spine(package, package_path)
        ]
    text = "\n\n".join(part for part in parts if part)
    return _with_text(text, _properties(package), "e-book")


def _package_path(archive: Archive) -> str:
    rootfile = archive.xml("META-INF/container.xml").find(".//{*}rootfile")
    if rootfile is None:
        raise DocumentError("is no e-book: its container names no package")
    return rootfile.attrib["full-path"]


def _spine(package: ElementTree.Element, package_path: str) -> list[str]:
    """Archive names of the parts that are read from first to last."""
    folder = posixpath.dirname(package_path)
    hrefs = {item.get("id"): item.get("href", "") for item in package.findall(".//{*}item")}
    references = [item.get("idref") for item in package.findall(".//{*}spine/{*}itemref")]
    return [
        posixpath.normpath(posixpath.join(folder, unquote(hrefs[reference])))
        for reference in references
    ]


def _decode_part(data: bytes) -> str:
    return decode(data).text if data.strip() else ""


def _refuse_protected(archive: Archive) -> None:
    if "META-INF/encryption.xml" not in archive.names():
        return
    methods = archive.xml("META-INF/encryption.xml").findall(".//{*}EncryptionMethod")
    if {method.get("Algorithm") for method in methods} - FONT_SCRAMBLING:
        raise DocumentError("is copy-protected; only books without protection can be read")


def _docx_properties(archive: Archive) -> dict[str, str]:
    name = "docProps/core.xml"
    return _properties(archive.xml(name)) if name in archive.names() else {}


def _properties(root: ElementTree.Element) -> dict[str, str]:
    """Title and author in Dublin Core, which both formats use."""
    found = {
        name: squeeze(root.findtext(f".//{{*}}{tag}"))
        for tag, name in (("title", "title"), ("creator", "author"))
    }
    return {name: value for name, value in found.items() if value}


def _text_of(html: str) -> str:
    parser = TextOfHtml()
    parser.feed(html)
    parser.close()
    return parser.text()


def _with_text(text: str, metadata: dict[str, str], kind: str) -> Extract:
    if not text.strip():
        raise DocumentError(f"is a {kind} without text")
    return Extract(text, metadata)
