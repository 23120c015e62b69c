"""What stands in the documents: pages, fences, commands, links and headings, read from their Markdown."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

from conftest import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
LOG = "docs/lab_log.md"
"""Its commands are those of their day: they are not run, and need no language."""

LANGUAGES = ("sh", "text", "yaml", "json", "python")
PROGRAMS = ("python", "make", "pip", "torchrun", "sbatch", "ssh", "export", "source")
"""What commands begin with; other lines (files that are written) are a script."""
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.M | re.S)
_TITLE = re.compile(r'title="(.+)"')
_INLINE = re.compile(r"`((?:python -m|make|pip|torchrun|sbatch) [^`]+)`")
_HEREDOC = re.compile(r"<<'(\w+)'\n.*?^\1$\n?", re.M | re.S)
_HEADING = re.compile(r"^#+ (.+)$", re.M)


@dataclass(frozen=True)
class Fence:
    """A block of code, with the line of the document at which it begins."""

    language: str
    line: int
    text: str
    file: str = ""
    """Path of the file that it is the content of, where it says so: ```yaml title="sweeps/mine.yaml"."""


@dataclass(frozen=True)
class Command:
    """A command line of a document, or lines that a shell runs together."""

    document: str
    line: int
    text: str
    is_script: bool = False
    """It begins with none of `PROGRAMS`: a shell runs it as it stands."""

    @property
    def words(self) -> list[str]:
        """The words as a shell splits them, without what stands behind `#`."""
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {self.text.splitlines()[0]}"


def text_of(name: str) -> str:
    """Return the text of a document."""
    return (ROOT / name).read_text(encoding="utf-8")


def fences(text: str) -> list[Fence]:
    """Return the blocks of code of a document."""
    return [
        Fence(found[1], text.count("\n", 0, found.start()) + 1, found[3], "".join(_TITLE.findall(found[2])))
        for found in _FENCE.finditer(text)
    ]


def prose(text: str) -> str:
    """Return a document without its blocks of code, with as many lines."""
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)


def commands(name: str, text: str) -> list[Command]:
    """Return the commands of a document in order, and for each block that is the content of a file what writes it.

    Commands are those of `sh` blocks and those between backticks in the prose. One between backticks that names a
    program alone (`python -m analysis.claims`) is a name and no command line.
    """
    found = [command for fence in fences(text) if fence.language == "sh" for command in _of_block(name, fence)]
    for fence in fences(text):
        if fence.file:
            found.append(Command(name, fence.line, f"cat > '{fence.file}' <<'END'\n{fence.text}END\n", is_script=True))
    plain = prose(text)
    for inline in _INLINE.finditer(plain):
        line = " ".join(inline[1].split())
        if not line.startswith("python") or len(line.split()) > 3:
            found.append(Command(name, plain.count("\n", 0, inline.start()) + 1, line))
    return sorted(found, key=lambda command: command.line)


def _of_block(name: str, fence: Fence) -> list[Command]:
    """Return the commands of a block: lines joined at a backslash; lines of a script, with what they write, as one."""
    found: list[Command] = []
    place, text = 0, fence.text
    while place < len(text):
        end = text.find("\n", place) + 1
        here = _HEREDOC.search(text, place)
        if here and here.start() < end:
            end = here.end()
        while text[place:end].endswith("\\\n"):
            end = text.find("\n", end) + 1
        line, number = text[place:end], fence.line + 1 + text.count("\n", 0, place)
        is_script = line.split()[:1] != [] and line.split()[0] not in PROGRAMS
        if is_script and found and found[-1].is_script:
            found[-1] = replace(found[-1], text=found[-1].text + line)
        elif line.strip():
            found.append(Command(name, number, line if is_script else line.replace("\\\n", " ").strip(), is_script))
        place = end
    return found


def links(text: str) -> list[str]:
    """Return the targets of the links and pictures of a document, but for those of other hosts."""
    return re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a document, as code hosts and the site both make them."""
    plain = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower() for heading in _HEADING.findall(prose(text)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}
