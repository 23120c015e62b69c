"""The commands of this package, one line each: `python -m ablate`, and `python -m analysis` for its own."""

from __future__ import annotations

import ast
from pathlib import Path


def commands(package: Path) -> dict[str, str]:
    """Return command -> what it does, in one line: of modules that can be run, the first line of their docstrings.

    A room with a `__main__.py` is a command too.
    """
    summaries = {}
    for path in (*package.glob("*.py"), *package.glob("*/__main__.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path != package / "__main__.py" and any(map(_is_entry, tree.body)):
            name = path.parent.name if path.stem == "__main__" else path.stem
            summaries[f"{package.name}.{name}"] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return dict(sorted(summaries.items()))


def _is_entry(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def show(package: Path) -> None:
    """Print the commands of a package."""
    for name, words in commands(package).items():
        print(f"python -m {name:<24} {words}")
    print("\neach says more with --help")


if __name__ == "__main__":
    show(Path(__file__).parent)
