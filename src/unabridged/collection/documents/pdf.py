"""PDF to text, page by page, by PDFium."""

from __future__ import annotations

import re
from threading import Lock

import pypdfium2.raw as pdfium_c
from pypdfium2 import PdfDocument, PdfiumError

from unabridged._errors import DocumentError
from unabridged.collection.documents.document import Extract, squeeze

__all__ = ["read_pdf"]

# PDFium keeps global state and may not be entered by two threads at once.
_ONE_AT_A_TIME = Lock()

BETWEEN_PAGES = "\n\n"
HYPHEN = re.compile("[\ufffe\x02](?:\r\n|\n)?")
"""PDFium's mark of a hyphen at the end of a line, inside a divided word."""

REASONS = {
    pdfium_c.FPDF_ERR_PASSWORD: "is encrypted and needs a password; save it without one",
    pdfium_c.FPDF_ERR_FORMAT: "is no PDF, or a damaged one",
    pdfium_c.FPDF_ERR_SECURITY: "is encrypted in a way that is not supported",
}


def read_pdf(data: bytes, *, max_chars: int) -> Extract:
    """Text of all pages, a blank line between two; pages without text are named in the metadata.

    Raises:
        DocumentError: no PDF, encrypted, no text on any page, or more than `max_chars` of it.
    """
    with _ONE_AT_A_TIME:
        try:
            document = PdfDocument(data)
        except PdfiumError as error:
            raise DocumentError(REASONS.get(error.err_code, "is no readable PDF")) from error
        try:
            pages = _pages(document, max_chars)
            metadata = {
                name: squeeze(value)
                for name in ("Title", "Author")
                if (value := document.get_metadata_value(name))
            }
        finally:
            document.close()
    return _join(pages, {name.lower(): value for name, value in metadata.items()})


def _pages(document: PdfDocument, max_chars: int) -> list[str]:
    texts, total = [], 0
    for number in range(len(document)):
        texts.append(_page_text(document, number))
        total += len(texts[-1])
        if total > max_chars:
            raise DocumentError(f"holds more than {max_chars:,} characters of text; split it")
    return texts


def _page_text(document: PdfDocument, number: int) -> str:
    try:
        page = document[number]
    except PdfiumError:
        return ""  # a damaged page counts as one without text, and is named as such
    try:
        text_page = page.get_textpage()
        try:
            text = text_page.get_text_bounded()
        finally:
            text_page.close()
    finally:
        page.close()
    text = HYPHEN.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return str(text).strip()


def _join(pages: list[str], metadata: dict[str, str]) -> Extract:
    blank = [str(number) for number, text in enumerate(pages, start=1) if not text]
    if len(blank) == len(pages):
        raise DocumentError(
            f"has no text on any of its {len(pages)} pages, probably scanned; "
            "run it through a text recognition (OCR) program first"
        )
    starts, offset = [], 0
    for text in pages:
        starts.append(offset)
        offset += len(text) + len(BETWEEN_PAGES)
    if blank:
        metadata["pages_without_text"] = ", ".join(blank)
    return Extract(BETWEEN_PAGES.join(pages), metadata, tuple(starts))
