"""Every file becomes a document or a reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import files
from unabridged._errors import DocumentError
from unabridged.collection.documents import (
    Document,
    NothingToRead,
    file_digest,
    read_document,
    walk,
)
from unabridged.collection.documents import files as file_access

AS_ROOT = not hasattr(os, "geteuid") or os.geteuid() == 0


def read(tmp_path: Path, name: str, data: bytes, **options: int) -> Document:
    path = tmp_path / name
    path.write_bytes(data)
    return read_document(path, tmp_path, **options)


def reason(tmp_path: Path, name: str, data: bytes, **options: int) -> str:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, name, data, **options)
    return str(caught.value)


# Plain text: offsets, newlines, encodings.

SENTENCES = {
    "cp1252": "L'été à la forêt, où l'élève reçoit un café – c'est déjà ça.\r\n",
    "cp1250": "Wszyscy ludzie rodzą się wolni i równi pod względem godności. Każdy może żyć.\n",
    "cp1251": "Все люди рождаются свободными и равными в своём достоинстве и правах.\n",
    "koi8_r": "Все люди рождаются свободными и равными в своём достоинстве и правах.\n",
    "cp1253": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στα δικαιώματα.\n",
    "gb18030": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。\n",
    "big5": "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心。\n",
    "cp932": "すべての人間は、生まれながらにして自由であり、かつ、平等である。\n",
    "cp949": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.\n",
    "utf-8": "naïve café 😀 e\u0301 日本\r\nnext\rlast\n",
    "utf-8-sig": "a mark stands before this ✓\n",
    "utf-16": "Ein Übermaß\r\n😀\n",
    "utf-16-le": "no mark stands before this\r\n",
    "utf-16-be": "no mark stands before this\r\n",
    "utf-32": "wide\n",
}


@pytest.mark.parametrize("encoding", SENTENCES)
def test_text_is_the_decoded_file_and_nothing_else(tmp_path, encoding):
    data = (SENTENCES[encoding] * 11).encode(encoding)
    document = read(tmp_path, "a.txt", data)
    assert document.text == SENTENCES[encoding] * 11
    assert document.path is not None
    assert document.path.read_bytes().decode(document.metadata["encoding"]) == document.text


def test_newlines_are_not_translated(tmp_path):
    assert read(tmp_path, "a.md", b"one\r\ntwo\rthree\n").text == "one\r\ntwo\rthree\n"


def test_a_few_damaged_places_in_utf8_are_shown_and_counted(tmp_path):
    document = read(tmp_path, "a.txt", "größer als üblich, schöner. ".encode() * 7 + b"\xff end")
    assert document.text.endswith("\ufffd end")
    assert "größer" in document.text
    assert document.metadata == {"encoding": "utf-8", "replaced_characters": "1"}


def test_a_short_text_in_damaged_utf8_is_read_all_the_same(tmp_path):
    data = bytearray("Größe 日本. ".encode() * 3)
    data[3] = 0xFF
    document = read(tmp_path, "a.txt", bytes(data) + b"The rest is plain. " * 5)
    assert "Größe" in document.text
    assert document.metadata["replaced_characters"] == "2"


def test_western_text_with_one_accent_is_windows_1252(tmp_path):
    text = "We met at the café and left. " * 3
    assert read(tmp_path, "a.txt", text.encode("latin-1")).text == text


def test_a_large_legacy_file_is_detected_from_a_sample(tmp_path):
    text = "Die Bürger müssen früh aufstehen.\n" * 100_000
    assert read(tmp_path, "a.txt", text.encode("cp1252")).text == text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"text \x00 then a byte that no text has", "binary data under the name of a text file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "binary data under the name of a text file"),
        (b"long enough " * 1000 + b"\x00", "NUL byte at byte 12,000"),
        (bytes(range(1, 9)) * 9, "binary data"),
        (bytes(range(128, 256)) * 40, "no text"),
    ],
)
def test_binary_data_renamed_txt_is_refused(tmp_path, data, expected):
    assert expected in reason(tmp_path, "a.txt", data)


@pytest.mark.parametrize(("data", "expected"), [(b"", "empty"), (b" \n\t\r\n", "white space")])
def test_no_words_are_nothing_to_read(tmp_path, data, expected):
    with pytest.raises(NothingToRead, match=expected):
        read(tmp_path, "a.txt", data)


def test_one_character_is_a_document(tmp_path):
    assert read(tmp_path, "a.txt", b"x").text == "x"


def test_an_oversized_file_names_its_size_and_the_limit(tmp_path):
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.write(b"text " * 4000)
        file.truncate(200_000_000)  # sparse: takes no room on the disk
    with pytest.raises(DocumentError, match="has 200 MB and the limit is 100 MB"):
        read_document(path, tmp_path)
    with pytest.raises(DocumentError, match="200 MB"):
        file_digest(path)


# Names.


def test_ids_are_relative_with_forward_slashes(tmp_path):
    path = tmp_path / "minutes" / "may.txt"
    path.parent.mkdir()
    path.write_text("x")
    assert read_document(path, tmp_path).id == "minutes/may.txt"


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_a_name_that_is_no_utf8_becomes_an_id_that_can_be_stored(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    path.write_text("x")
    assert read_document(path, tmp_path).id == "caf\\xe9.txt"


@pytest.mark.parametrize("name", ["README", "minutes.vtt", "table.csv", "notes.2024"])
def test_text_is_read_whatever_its_name(tmp_path, name):
    assert read(tmp_path, name, b"words").text == "words"


@pytest.mark.parametrize("name", ["photo.png", "program", "drawing.svg"])
def test_pictures_and_programs_are_nothing_to_read(tmp_path, name):
    data = b"<svg/>" if name.endswith("svg") else b"\x7fELF\x00\x00\x01"
    with pytest.raises(NothingToRead):
        read(tmp_path, name, data)


@pytest.mark.parametrize("name", ["letter.doc", "letter.odt", "letter.rtf", "talk.pptx"])
def test_words_in_a_closed_container_are_a_loss_and_say_what_to_do(tmp_path, name):
    with pytest.raises(DocumentError, match="save it as") as caught:
        read(tmp_path, name, b"{\\rtf1 words")
    assert not isinstance(caught.value, NothingToRead)


# HTML.


def test_html_gives_what_a_browser_shows(tmp_path):
    page = (
        b"<!doctype html><title>Rivers &amp;\n lakes</title><style>p {}</style><h1>The\n Rhine</h1>"
        b"<p>It <b>flows</b>&nbsp;north.<br>Far.</p><ul><li>one<li>two</ul><script>if (a<b) x()"
        b"</script><table><tr><td>a<td>b</table><pre> kept\n  as is</pre><img alt='a map'>"
    )
    document = read(tmp_path, "a.html", page)
    expected = "The Rhine\n\nIt flows north.\nFar.\n\none\ntwo\n\na\tb\n\n kept\n  as is\n\na map"
    assert document.text == expected
    assert document.metadata["title"] == "Rivers & lakes"
    assert document.media_type == "text/html"


def test_html_is_read_in_the_encoding_that_it_declares(tmp_path):
    page = '<meta charset="koi8-r"><p>Привет, мир'.encode("koi8-r")
    assert read(tmp_path, "a.htm", page).text == "Привет, мир"


def test_html_that_is_wrong_about_its_encoding_is_read_all_the_same(tmp_path):
    page = '<meta charset="ascii"><p>naïve'.encode()
    assert read(tmp_path, "a.htm", page).text == "naïve"


def test_html_without_visible_text_is_reported(tmp_path):
    assert "scripts" in reason(tmp_path, "a.html", b"<body><script>draw()</script>")


def test_text_after_a_hidden_part_that_was_closed_twice_is_kept(tmp_path):
    page = b"<p>one<script>x</script></script><svg><title>no</title></svg> two"
    document = read(tmp_path, "a.html", page)
    assert document.text == "one two"
    assert "title" not in document.metadata


def test_an_entity_on_the_border_of_two_pieces_is_whole(tmp_path):
    page = b"<p>" + b"x" * ((1 << 20) - 6) + b"&eacute;y"
    assert read(tmp_path, "a.html", page).text.endswith("xéy")


# PDF.


def test_pdf_pages_begin_where_page_starts_says(tmp_path):
    document = read(tmp_path, "a.pdf", files.pdf(["The first\npage", "", "The third"], title="T"))
    assert document.text == "The first\npage\n\n\n\nThe third"
    assert [document.text[start:][:9] for start in document.page_starts][::2] == [
        "The first",
        "The third",
    ]
    assert document.metadata == {"title": "T", "pages_without_text": "2"}
    assert [document.page_at(offset) for offset in (0, 12, 22)] == [1, 1, 3]


def test_pdf_without_text_says_what_helps(tmp_path):
    assert "OCR" in reason(tmp_path, "a.pdf", files.pdf(["", ""]))


def test_encrypted_pdf_is_refused(tmp_path):
    assert "password" in reason(tmp_path, "a.pdf", files.pdf(["secret"], encrypt=True))


def test_what_is_no_pdf_is_refused(tmp_path):
    assert "no PDF" in reason(tmp_path, "a.pdf", b"plain words")


# Word and e-books.


def test_docx_gives_its_paragraphs_title_and_author(tmp_path):
    document = read(tmp_path, "a.docx", files.docx(["First.", "Zweitens: größer."]))
    assert document.text == "First.\n\nZweitens: größer."
    assert document.metadata == {"title": "The Report", "author": "A. Writer"}


def test_epub_is_read_in_the_order_of_its_spine(tmp_path):
    document = read(tmp_path, "a.epub", files.epub(["<p>One.</p>", "<p>Two.</p>", ""]))
    assert document.text == "One.\n\nTwo."
    assert document.metadata == {"title": "A Book"}


BOMB = b"<w:p/>" * 1_000_000


@pytest.mark.parametrize("kind", ["docx", "epub"])
def test_zip_bomb_is_refused_before_it_unfolds(tmp_path, kind):
    member = {"docx": "word/comments.xml", "epub": "OEBPS/part 0.xhtml"}[kind]
    data = getattr(files, kind)(["x"], extra={member: BOMB})
    assert len(data) < 50_000
    assert "zip bomb" in reason(tmp_path, f"a.{kind}", data, max_bytes=1_000_000)


def test_zip_bomb_that_lies_about_its_size_is_refused(tmp_path):
    data = bytearray(files.docx(["x"], extra={"word/comments.xml": BOMB}))
    size = len(BOMB).to_bytes(4, "little")
    assert data.count(size) == 2
    data = data.replace(size, (1000).to_bytes(4, "little"))
    assert "damaged" in reason(tmp_path, "a.docx", bytes(data), max_bytes=1_000_000)


@pytest.mark.parametrize("kind", ["docx", "epub"])
@pytest.mark.parametrize("damage", ["half", "no archive", "another archive", "compound"])
def test_damaged_archives_are_refused(tmp_path, kind, damage):
    whole = getattr(files, kind)(["Some words."])
    data = {
        "half": whole[: len(whole) // 2],
        "no archive": b"plain words",
        "another archive": files.archive({"a.txt": "words"}),
        "compound": b"\xd0\xcf\x11\xe0" + bytes(512),
    }[damage]
    assert "is encrypted" in (text := reason(tmp_path, f"a.{kind}", data)) or "damaged" in text


def test_word_document_with_entities_is_refused(tmp_path):
    xml = f'<!DOCTYPE x [<!ENTITY a "aa">]><w:document {files.WORD}>&a;</w:document>'
    assert "entities" in reason(
        tmp_path, "a.docx", files.docx([], extra={"word/document.xml": xml})
    )


def test_copy_protected_book_is_refused(tmp_path):
    xml = '<e xmlns="x"><EncryptionMethod Algorithm="http://ns.adobe.com/adept"/></e>'
    data = files.epub(["<p>x"], extra={"META-INF/encryption.xml": xml})
    assert "copy-protected" in reason(tmp_path, "a.epub", data)


def test_book_with_scrambled_fonts_is_read(tmp_path):
    xml = '<e><EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/></e>'
    data = files.epub(["<p>x"], extra={"META-INF/encryption.xml": xml})
    assert read(tmp_path, "a.epub", data).text == "x"


# The file system.


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in walk(folder)]


def test_walk_is_sorted_and_leaves_out_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/c.md", ".git/config", "a/.hidden", "B.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert names(tmp_path) == ["B.txt", "a/b/c.md", "a/z.txt", "b.txt"]


def test_links_to_folders_are_followed_outwards_and_reported_inwards(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "far.txt").write_text("x")
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "near.txt").write_text("x")
    (folder / "away").symlink_to(outside)
    (folder / "again").symlink_to(outside / "deep")
    (folder / "loop").symlink_to(folder)
    (folder / "inside" / "up").symlink_to(tmp_path)
    (outside / "back").symlink_to(folder)
    assert names(folder) == ["again/far.txt", "away", "inside/near.txt", "inside/up", "loop"]
    for name in ("away", "loop", "inside/up"):
        with pytest.raises(NothingToRead, match="link to a folder"):
            file_digest(folder / name)


def test_links_that_lead_nowhere_or_to_themselves_are_reported(tmp_path):
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "missing.txt")
    assert names(tmp_path) == ["gone.txt", "self.txt"]
    with pytest.raises(DocumentError, match="leads nowhere"):
        read_document(tmp_path / "gone.txt", tmp_path)
    with pytest.raises(DocumentError, match="symbolic links"):
        read_document(tmp_path / "self.txt", tmp_path)


@pytest.mark.skipif(AS_ROOT, reason="the superuser may read everything")
def test_unreadable_files_and_folders_are_reported(tmp_path):
    (tmp_path / "secret").mkdir(mode=0)
    (tmp_path / "private.txt").write_text("x")
    (tmp_path / "private.txt").chmod(0)
    assert names(tmp_path) == ["private.txt", "secret"]
    for path in walk(tmp_path):
        with pytest.raises(DocumentError, match="permission denied"):
            file_digest(path)


def test_refused_permission_is_a_reason(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text("x")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DocumentError, match="permission denied"):
        read_document(tmp_path / "a.txt", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(NothingToRead, match="pipe"):
        file_digest(tmp_path / "pipe.txt")


def test_digest_is_sha256_and_changes_with_the_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    assert file_digest(path).startswith("ba7816bf8f01cfea")
    path.write_bytes(b"abd")
    assert not file_digest(path).startswith("ba7816bf8f01cfea")


def growing(path: Path, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Append to the file between the status and the reading, that many times."""
    left, check = [times], file_access.check_readable

    def check_then_append(*arguments):
        status = check(*arguments)
        if left[0]:
            left[0] -= 1
            with path.open("a") as file:
                file.write("more ")
        return status

    monkeypatch.setattr(file_access, "check_readable", check_then_append)


def test_a_file_that_changes_once_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "a.log"
    path.write_text("start ")
    growing(path, 1, monkeypatch)
    assert read_document(path, tmp_path).text == "start more "


def test_a_file_that_never_rests_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.log"
    path.write_text("start ")
    growing(path, 99, monkeypatch)
    with pytest.raises(DocumentError, match="keeps changing"):
        read_document(path, tmp_path)
