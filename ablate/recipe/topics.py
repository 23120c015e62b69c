"""How plain queries are declared that a program writes from the metadata of documents.

    splits: [[train, 0.7], [dev, 0.1], [test, 0.2]]       of documents and of topics, so that splits share neither
    least: 5                                              documents that a topic needs in its split, and most: 40
    topics:
      - name: actor
        parts: [{name: actor, field: cast, measure: value}]       one topic for every actor
        texts: ["[films|movies] [with|starring] {actor}"]

Plain values only; `ablate.data.rules.written` applies them to a corpus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from ablate.recipe.factors import Range
from ablate.recipe.rules import check_texts
from ablate.records import UserError


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that a topic is about, by what a document says of it."""

    name: str
    """What texts have in braces."""
    field: str
    """Dotted path in a document's metadata, or `title` or `text`."""
    measure: Literal["value", "decade", "words", "pattern"]
    """value: the field itself, or each entry of a list; decade: 1990 for a year 1990 to 1999; words: each word of a
    text in small letters, of five or more; pattern: what the group of `pattern` finds in a text."""
    pattern: str | None = None
    """A regular expression with one group, such as `directed by ([A-Z]\\w+ [A-Z]\\w+)`."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One kind of query: for each value of its parts that enough documents have, one query."""

    name: str
    parts: tuple[Part, ...]
    """Several: documents that have all of them (a genre and a decade)."""
    texts: tuple[str, ...]
    """Wordings of the query, with `{name}` of each part; `[films|movies]` stands for either."""


@dataclass(frozen=True, kw_only=True)
class WrittenQueries:
    """The plain queries of a corpus, written from the metadata of its documents."""

    splits: tuple[tuple[str, Annotated[float, Range(0.0, 1.0)]], ...]
    """Name and share of each split; a document and a topic belong to one split by a keyed draw, and the rest is unused.
    The first has the training rows where `source.train_split` names it."""
    least: Annotated[int, Range(2, 1_000_000)]
    """Documents of its split that answer a query, at least."""
    most: Annotated[int, Range(2, 1_000_000)]
    """At most: a query that half of the corpus answers has no hard negatives."""
    rows_per_query: Annotated[int, Range(1, 1_000_000)]
    """Training rows of one query, at most; over its rules in turn."""
    topics: tuple[Topic, ...]


def check_queries(queries: WrittenQueries, path: str = "source.queries") -> None:
    """Raise UserError, with the dotted path, for splits, topics or texts that make no sense."""
    names = [name for name, _ in queries.splits]
    for index, (name, share) in enumerate(queries.splits):
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or names.index(name) != index:
            raise UserError(
                f"{path}.splits[{index}]: {name!r} is no name of its own; use letters, digits, `_`, `-` and `.`, once"
            )
        if share == 0:
            raise UserError(f"{path}.splits[{index}]: the share of {name!r} is 0; give it some, or leave it out")
    total = sum(share for _, share in queries.splits)
    if not names or total > 1 + 1e-9:
        raise UserError(f"{path}.splits: the shares add to {total:g}; give at least one split, and at most 1 in all")
    if queries.most < queries.least:
        raise UserError(f"{path}.most={queries.most} is less than {path}.least={queries.least}; raise it")
    if not queries.topics:
        raise UserError(f"{path}.topics is empty; declare at least one kind of query")
    for index, topic in enumerate(queries.topics):
        where = f"{path}.topics[{index}]"
        if not re.fullmatch(r"[A-Za-z0-9_.]+", topic.name):
            raise UserError(f"{where}.name={topic.name!r} goes into ids; use letters, digits, `_` and `.` only")
        if [other.name for other in queries.topics].index(topic.name) != index:
            raise UserError(f"{where}.name={topic.name!r} is there twice; give each topic its own name")
        _check_topic(topic, where)


def _check_topic(topic: Topic, where: str) -> None:
    names = tuple(part.name for part in topic.parts)
    if not names or len(set(names)) < len(names):
        raise UserError(f"{where}.parts={list(names)} must name at least one part and none twice")
    for index, part in enumerate(topic.parts):
        at = f"{where}.parts[{index}]"
        if not part.name.isidentifier():
            raise UserError(f"{at}.name={part.name!r} stands in braces; use letters, digits and `_`, a letter first")
        if not part.field or not all(part.field.split(".")):
            raise UserError(f"{at}.field={part.field!r} is no dotted path; write title, text, or a path like a.b")
        if (part.measure == "pattern") != (part.pattern is not None):
            raise UserError(f"{at}: measure pattern and a pattern go together (measure={part.measure})")
        if part.pattern is not None:
            try:
                groups = re.compile(part.pattern).groups
            except re.error as error:
                raise UserError(f"{at}.pattern={part.pattern!r} is no regular expression ({error})") from None
            if groups != 1:
                raise UserError(f"{at}.pattern={part.pattern!r} has {groups} groups; it takes one, for what is found")
    if not topic.texts:
        raise UserError(f"{where}.texts is empty; write at least one query")
    for index, text in enumerate(topic.texts):
        if not text.strip():
            raise UserError(f"{where}.texts[{index}] is blank; write a query")
        check_texts(text, names, names, f"{where}.texts[{index}]", "which the topic is about")
