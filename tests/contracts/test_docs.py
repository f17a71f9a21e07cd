"""The documents name things that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_paper_to_code_names_what_there_is() -> None:
    entries = re.findall(r"`([\w/]+\.py)`(?:: ([^|;]*))?", (ROOT / "docs" / "paper-to-code.md").read_text())
    assert len(entries) > 15
    for file, rest in entries:
        source = (ROOT / "src" / "esc_sr" / file).read_text()
        for name in re.findall(r"`([A-Za-z]\w+)(?:\.\w+)?`", rest):
            assert re.search(rf"(class|def) {name}\b|\"{name}\"", source), f"{file} has no {name}"
