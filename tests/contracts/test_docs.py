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


def test_sections_are_those_of_the_paper() -> None:
    sections = {"3", "3.1", "3.2", "3.3", "4.1", "4.2", "4.3", "4.4", "6", "6.1", "6.2", "6.3", "7"}
    families = ROOT / "src" / "esc_sr" / "families"  # but for two, of other papers
    sources = [*(path for path in (ROOT / "src").rglob("*.py") if not path.is_relative_to(families))]
    sources += [*(families / "esc").glob("*.py"), *(families / "lte").glob("*.py")]
    for path in [*DOCUMENTS, *sources]:
        named = re.findall(r"(?:Sec|Supp)\. (\d(?:\.\d)?)", path.read_text())
        assert set(named) <= sections, path
    assert "Sec. 4.3, Supp. 6.2: arbitrary scale" in (ROOT / "docs" / "paper-to-code.md").read_text()
