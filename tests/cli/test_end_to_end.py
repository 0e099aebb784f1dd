"""Once through with the packaged model; and what the program costs before it does anything."""

from __future__ import annotations

import subprocess
import sys

import files


def test_index_search_doctor_with_the_packaged_model(run, tmp_path):
    folder = tmp_path / "letters"
    folder.mkdir()
    filler = "Nothing of note was said about the weather that afternoon. " * 60
    (folder / "a.txt").write_text(filler + "The roof of the school is leaking. " + filler)
    (folder / "b.docx").write_bytes(files.docx(["The orchestra rehearses on Fridays."] * 20))
    (folder / "c.pdf").write_bytes(files.pdf(["Invoices are paid within thirty days."] * 3))
    report = run("index", folder, "--json").json
    assert report["tokens_read"] == report["tokens_total"] > 1400
    first = run("search", "water comes through the ceiling of the classroom", "--json").json_lines[
        0
    ]
    assert first["document"] == "a.txt"
    assert "roof" in first["passages"][0]["text"]
    findings = {(f["about"], f["name"]): f for f in run("doctor", "--json").json}
    assert findings["collection", "documents"]["value"] == "3"
    assert len(findings["model", "fingerprint"]["value"]) == 64
    assert not any(finding["wrong"] for finding in findings.values())


def test_help_loads_nothing_heavy():
    code = (
        "import sys, unabridged.cli\n"
        "try: unabridged.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lancedb', 'transformers', 'pyarrow', 'pypdfium2'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: unabridged" in done.stdout
