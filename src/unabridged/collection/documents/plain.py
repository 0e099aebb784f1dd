"""Bytes to text: which encoding, and whether it is text at all."""

from __future__ import annotations

import codecs
import re

from unabridged._errors import DocumentError
from unabridged.collection.documents.document import Extract, NothingToRead

__all__ = ["decode", "looks_binary"]

BYTE_ORDER_MARKS = (
    # The marks of UTF-32 begin with those of UTF-16, so they are tried first.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# The encodings that files without a mark are found in, as the WHATWG Encoding Standard lists them;
# left to choose among all, the detector takes Western text for rarities such as hp_roman8.
LEGACY = [
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp874",
    "gb18030", "big5", "cp932", "euc_jp", "cp949",
]  # fmt: skip

WESTERN_MARGIN = 0.08
"""How much more disorder the detector may see in windows-1252 than in its own favourite.

It cannot tell French, Swedish or Portuguese in windows-1252 from windows-1250, and picks the
latter; files of the former are far more common.
"""
# Polish and its neighbours, read as windows-1252, have signs such as ¹ and ³ inside their words.
SIGN_IN_WORD = re.compile("[^\\W\\d_][\xa1-\xa9\xab-\xb6\xb8\xb9\xbb-\xbf][^\\W\\d_]")

SAMPLE = 65_536
CONTROLS = bytes({*range(0x20), 0x7F} - {*b"\b\t\n\v\f\r\x1b"})


def looks_binary(head: bytes) -> bool:
    r"""Whether the first bytes of a file are no text in any encoding.

    >>> looks_binary(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), looks_binary(b"caf\xe9")
    (True, False)
    """
    if _byte_order_mark(head) or _utf16_without_mark(head):
        return False
    return b"\0" in head or len(head) - len(head.translate(None, CONTROLS)) > len(head) / 50


def decode(data: bytes) -> Extract:
    """Text of a plain file, exactly as it is, with its encoding in the metadata.

    In this order: byte order mark; UTF-16 without one; strict UTF-8; UTF-8 with a few damaged
    places, each shown as U+FFFD and counted in `metadata["replaced_characters"]`; else a
    legacy encoding as charset-normalizer sees it. It looks at one sample, so that a large file
    costs no more than a small one.

    Raises:
        NothingToRead: no bytes, or nothing but white space.
        DocumentError: the bytes are no text.
    """
    encoding = _byte_order_mark(data) or _utf16_without_mark(data[:SAMPLE])
    if encoding is None and b"\0" in data:
        raise DocumentError(
            f"holds a NUL byte at byte {data.index(0):,}: binary data under a text file's name"
        )
    if encoding is None and looks_binary(data[:SAMPLE]):
        raise DocumentError("is mostly control characters: binary data under a text file's name")
    try:
        text = data.decode(encoding or "utf-8")
        return _checked(text, {"encoding": encoding or "utf-8"})
    except UnicodeDecodeError as error:
        return _decode_damaged(data, encoding, error.start)


def _checked(text: str, metadata: dict[str, str]) -> Extract:
    if not text or text.isspace():
        raise NothingToRead("is empty" if not text else "holds nothing but white space")
    return Extract(text, metadata)


def _byte_order_mark(data: bytes) -> str | None:
    return next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), None)


def _utf16_without_mark(head: bytes) -> str | None:
    """Text in Latin letters has a NUL in nearly every second byte, and none in the others."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    most, least = max(even, odd), min(even, odd)
    if len(head) < 4 or least > 0 or most < 0.4 * len(head) / 2:
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _decode_damaged(data: bytes, encoding: str | None, first_bad: int) -> Extract:
    if encoding is None:
        text = data.decode("utf-8", "replace")
        damaged = text.count("\ufffd")
        sound = len(text) - len(text.encode("ascii", "ignore")) - damaged
        encoding = "utf-8" if sound >= 10 * damaged else _guess(data, first_bad) or "utf-8"
    text = data.decode(encoding, "replace")
    replaced = text.count("\ufffd")
    if replaced > len(text) / 20:
        raise DocumentError(
            f"is no text in any known encoding: {replaced:,} places are invalid even as {encoding}"
        )
    metadata = {"encoding": encoding}
    if replaced:
        metadata["replaced_characters"] = str(replaced)
    return _checked(text, metadata)


def _guess(data: bytes, first_bad: int) -> str | None:
    # Slow to import and wanted for few files only.
    from charset_normalizer import from_bytes

    start = max(0, first_bad - SAMPLE // 2)
    sample = data[start : start + SAMPLE]
    matches = from_bytes(sample, cp_isolation=LEGACY)
    best = matches.best()
    if best is None:
        return None
    western = any(
        "cp1252" in (match.encoding, *match.could_be_from_charset)
        and match.chaos <= best.chaos + WESTERN_MARGIN
        for match in matches
    )
    if western and not SIGN_IN_WORD.search(sample.decode("cp1252", "replace")):
        return "cp1252"
    return best.encoding
