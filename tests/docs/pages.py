"""The documentation as data: pages, sections, tables, code blocks."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A code block and the page it stands on."""

    page: str
    language: str
    text: str


def name(page: Path) -> str:
    """The id of a parametrised test."""
    return str(page.relative_to(ROOT))


def reference(page: str) -> str:
    """The text of a reference page."""
    return (ROOT / "docs" / "reference" / page).read_text()


def blocks(language: str) -> list[Block]:
    """Every code block of a language, in all pages."""
    return [
        Block(name(page), language, text)
        for page in PAGES
        for text in fenced(page.read_text(), language)
    ]


def fenced(text: str, language: str) -> list[str]:
    """The code blocks of a language in a text."""
    return [
        _unindented(block, dent) for dent, found, block in _FENCE.findall(text) if found == language
    ]


def prose(text: str) -> str:
    """The text without its code blocks."""
    return _FENCE.sub("", text)


def headings(text: str) -> list[str]:
    """The headings, without their marks."""
    return [heading for _, heading in _HEADING.findall(prose(text))]


def sections(text: str) -> dict[str, str]:
    """Heading to the text up to the next heading of any level."""
    code = [block.span() for block in _FENCE.finditer(text)]
    found = [
        heading
        for heading in _HEADING.finditer(text)
        if not any(start < heading.start() < end for start, end in code)
    ]
    ends = [*(heading.start() for heading in found[1:]), len(text)]
    return {
        heading.group(2): text[heading.end() : end]
        for heading, end in zip(found, ends, strict=True)
    }


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without headings and rules."""
    found: list[list[str]] = []
    for line, following in zip(lines := text.splitlines(), [*lines[1:], ""], strict=True):
        if line.startswith("| ") and not following.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("| ").split(" | ")])
    return found


def words(text: str) -> list[str]:
    """What stands in `backticks`, in order."""
    return re.findall(r"`([^`\n]+)`", text)


def anchor(heading: str) -> str:
    """The fragment GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def _unindented(text: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))
