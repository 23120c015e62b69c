"""Write the reference of all configuration keys, from the types that check them and the values in conf/.

    python -m ablate.reference --to docs/configuration.md

Meanings are the docstrings of `ablate/recipe/`; defaults are those of `conf/`, and `python -m ablate.run` refuses what
is not listed.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union

from ablate.cli.command import command, finish, output_file, write_text
from ablate.cli.overrides import written
from ablate.compose import load, values_of
from ablate.plugins import plugin_names, plugin_of, source_type
from ablate.project import files_of
from ablate.recipe import factors, rules, schema, topics
from ablate.recipe.build import describe
from ablate.recipe.values import type_hints


class Section(NamedTuple):
    """A group of keys: where it stands, the type that checks it, and the words that choose it."""

    path: str
    kind: type
    chosen: tuple[str, ...] = ()


SECTIONS = (
    Section("source", schema.WorldSource),
    Section("source", schema.BeirSource, ("source=beir",)),
    Section("source", schema.RulesSource, ("source=movies_rules",)),
    Section("source.queries", topics.WrittenQueries, ("source=films_written",)),
    Section("source.queries.topics[]", topics.Topic, ("source=films_written",)),
    Section("source.queries.topics[].parts[]", topics.Part, ("source=films_written",)),
    Section("source.rules[]", rules.Rule, ("source=movies_rules",)),
    Section("source.rules[].wordings[]", rules.Wording, ("source=movies_rules",)),
    *(
        Section("source.rules[].constraint", kind, ("source=movies_rules",))
        for kind in (
            rules.AtLeast,
            rules.Between,
            rules.Equals,
            rules.Contains,
            rules.StartsWith,
            rules.Present,
        )
    ),
    Section("source", schema.PublishedSource, ("source=promptriever",)),
    Section("miner", schema.Miner, ("+miner=bm25",)),
    Section("audit", schema.Audit),
    Section("factors", factors.Factors),
    Section("budget", schema.Budget),
    Section("model", schema.ModelConfig),
    Section("model.tiny", schema.TinyModel, ("model=tiny",)),
    Section("model.static", schema.StaticModel, ("model=static",)),
    Section("model.lora", schema.Lora, ("model=decoder",)),
    Section("train", schema.TrainConfig),
    Section("evaluation", schema.EvaluationConfig),
    Section("evaluation.source", schema.MtebSource, ("+evaluation_source=followir",)),
    Section("evaluation.index", schema.ExactIndex, ("+index=exact",)),
    Section("evaluation.index", schema.IvfIndex, ("+index=ivf",)),
    Section("evaluation.index", schema.HnswIndex, ("+index=hnsw",)),
    Section("evaluation.index", schema.PqIndex, ("+index=pq",)),
    Section("runtime", schema.Runtime),
    Section("runtime.tracker", schema.TrackerConfig),
)

HEAD = """\
# Configuration: every key

Written by `python -m ablate.reference --to docs/configuration.md` from the types that check a command line; changes
belong into their docstrings.

A key is given as `KEY=VALUE` behind `python -m ablate.run`, or in a file of `conf/` or `sweeps/`. A file of a group is
chosen by the group's name: `model=tiny`, `source=beir`, `+miner=bm25`. Defaults are those of `conf/` with the words
that a section names; *needed* means that there is none. What is under `runtime` decides no number and stands in no id,
everything else does, but for `model.name`, a label. A place (`path`, `repo`) stands in ids by the revision of its
content. The block `study` has a reference of its own, `docs/claims.md`; spaces and settings of tuning are in
`docs/tuning.md`.
"""


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [HEAD, _top(), *map(_section, (*SECTIONS, *_of_plugins()))]
    return "\n".join(parts)


def _of_plugins() -> Iterator[Section]:
    """Yield the sections of the sources of other distributions, each with the file of `conf/source/` that has it."""
    brought = plugin_names("ablate.sources")
    words = [f"source={name}" for name in files_of("source")] if brought else []
    kinds = {values_of(load([word]), resolved=False)["source"].get("kind"): word for word in reversed(words)}
    for name in brought:
        plugin = plugin_of("ablate.sources", name)
        assert plugin is not None
        yield Section("source", source_type(plugin), (kinds[name],) if name in kinds else ())


def _top() -> str:
    """Return the keys that stand in no group."""
    values = values_of(load([]), resolved=False)
    documented = docstrings(schema.Recipe) | docstrings(schema.RunConfig)
    hints = {
        "seed": type_hints(schema.RunConfig)["seed"],
        **{name: type_hints(schema.Recipe)[name] for name in ("ranker", "stemmer")},
    }
    meant = {"seed": "Seed of the run: which rows are drawn, their order, and what training draws."} | {
        name: documented[name] for name in hints if name in documented
    }
    rows = [_row(name, hint, values[name], meant[name]) for name, hint in hints.items()]
    return "\n".join(["## By themselves", "", *_heading(), *rows, ""])


def _section(section: Section) -> str:
    chosen = f" ({', '.join(f'`{word}`' for word in section.chosen)})" if section.chosen else ""
    values = _at(values_of(load(section.chosen), resolved=False), section.path)
    if (
        values is not None
        and section.path == "source"
        and values["kind"] not in typing.get_args(type_hints(section.kind)["kind"])
    ):
        values = {}  # of a plugin without a file: what stands there are the keys of another source
    meanings, hints = docstrings(section.kind), type_hints(section.kind)
    rows = []
    for field in dataclasses.fields(section.kind):
        default = None if field.default is dataclasses.MISSING else field.default
        value = values.get(field.name, default) if values is not None else _NOT_SHOWN
        rows.append(_row(f"{section.path}.{field.name}", hints[field.name], value, meanings.get(field.name, "")))
    about = " ".join((section.kind.__doc__ or "").split())
    return "\n".join([f"## `{section.path}`{chosen}", "", about, "", *_heading(), *rows, ""])


_NOT_SHOWN = object()
"""In place of the default of keys that stand in a list, where each item has values of its own."""


def _at(values: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """Return the group of a path, None inside of a list."""
    for name in path.split("."):
        if name.endswith("[]"):
            return None
        values = values[name]
    return values


def _heading() -> list[str]:
    return ["| key | takes | default | meaning |", "|---|---|---|---|"]


def _row(key: str, hint: Any, value: Any, meaning: str) -> str:
    cells = (f"`{key}`", takes(hint), _default(value), meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(value: Any) -> str:
    if value is _NOT_SHOWN:
        return ""
    if value == "???":
        return "*needed*"
    if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
        return "see below"
    if isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        return "see the file"
    return f"`{written(value, mark=chr(34))}`"


def takes(hint: Any) -> str:
    """Return in words what a key takes; a group of keys is called so."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(takes(option) for option in arguments))
    if origin is Annotated and typing.get_origin(arguments[0]) is tuple:
        return takes(arguments[0])
    if origin is tuple:
        return (
            f"list of {takes(arguments[0])}" if arguments[-1] is Ellipsis else f"[{', '.join(map(takes, arguments))}]"
        )
    return "group of keys" if dataclasses.is_dataclass(hint) or hint is schema.PluginSource else describe(hint)


def docstrings(kind: type) -> dict[str, str]:
    """Return field -> its docstring in one line, of fields that have one; methods are passed over."""
    path = Path(str(sys.modules[kind.__module__].__file__))
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            return dict(_documented(node.body))
    raise AssertionError(f"{kind.__name__} is not at the top of {path}")


def _documented(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, words in zip(body, body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(words, ast.Expr)
            and isinstance(words.value, ast.Constant)
        ):
            yield field.target.id, " ".join(str(words.value.value).split())


def _run(options: argparse.Namespace) -> None:
    if options.to is None:
        print(reference(), end="")
    else:
        write_text(options.to, reference())


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command("ablate.reference", "Print the reference of all configuration keys.", "--to docs/configuration.md")
    made.add_argument("--to", type=output_file, metavar="F", help="write it to this file instead")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the reference and return the exit code."""
    return finish(_run, parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
