"""What mkdocs is told beside mkdocs.yml: README.md and the notebook are pages, documents that are named are links."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "notebooks/read_a_study.ipynb"
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def on_files(files: Files, config: Any) -> Files:
    """Add README.md as the first page, its links as seen from docs/, and the notebook as a page."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    cells = json.loads((ROOT / "docs" / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    shown = ["".join(cell["source"]) for cell in cells]
    parts = [
        f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for text, cell in zip(shown, cells, strict=True)
    ]
    files.append(File.generated(config, NOTEBOOK.replace(".ipynb", ".md"), content="\n\n".join(parts) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return a page on which a document between backticks is a link, and a link to README.md one to the first page."""
    place, parts = 0, []
    for fence in _FENCE.finditer(markdown):
        parts += [_linked(markdown[place : fence.start()]), fence[0]]
        place = fence.end()
    return "".join([*parts, _linked(markdown[place:])])


def _linked(text: str) -> str:
    text = text.replace("](../README.md", "](index.md").replace(
        f"]({NOTEBOOK}", f"]({NOTEBOOK.replace('.ipynb', '.md')}"
    )
    return re.sub(r"(?<!\[)`docs/(\w+\.md)`", r"[\1](\1)", text)
