"""Queries written from metadata: topics and answers by hand, splits that share nothing, rows, wordings, errors."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, data_folder, override

from ablate.compose import load, strict
from ablate.data.rules import RuleSource
from ablate.data.rules.plain import values_of, write_plain
from ablate.data.rules.truth import RuleTruth
from ablate.data.rules.values import satisfied
from ablate.data.sources import open_source
from ablate.evaluation.scoring import score_set
from ablate.recipe.build import build
from ablate.recipe.rules import Rule, check_rules
from ablate.recipe.topics import Part, WrittenQueries, check_queries
from ablate.records import Passage, UserError
from ablate.retrieval.rankings import Ranking

GENRES = ("Drama", "Comedy", "War")
QUERIES: dict[str, Any] = {
    "splits": [["train", 0.6], ["dev", 0.2], ["test", 0.2]],
    "least": 4,
    "most": 60,
    "rows_per_query": 1,
    "topics": [
        {
            "name": "actor",
            "parts": [{"name": "actor", "field": "cast", "measure": "value"}],
            "texts": ["[films|movies] with {actor}"],
        },
        {
            "name": "genre_decade",
            "parts": [
                {"name": "genre", "field": "genre", "measure": "value"},
                {"name": "decade", "field": "year", "measure": "decade"},
            ],
            "texts": ["{genre} of the {decade}s"],
        },
        {
            "name": "word",
            "parts": [{"name": "word", "field": "text", "measure": "words"}],
            "texts": ["about {word}"],
        },
    ],
}
YEAR: dict[str, Any] = {
    "name": "year",
    "field": "year",
    "measure": "value",
    "constraint": {"kind": "at_least"},
    "broad": "Any [year|time].",
    "wordings": [
        {
            "satisfying": "[Only|Just] [from {value} on|since {value}].",
            "violating": "[Only|Just] [before|till] {value}.",
        }
    ],
}
YEAR["wordings"][0]["violating"] = "[Only|Just] [before {value}|till {value}]."
HELD_OUT = [
    {"satisfying": "[{value} at the least|{value} or newer].", "violating": "[sooner than {value}|ahead of {value}]."}
]
GENRE: dict[str, Any] = {
    **YEAR,
    "name": "genre",
    "field": "genre",
    "constraint": {"kind": "equals"},
    "wordings": [{"satisfying": "Only {value}.", "violating": "No {value}."}],
}


def written(**changes: Any) -> WrittenQueries:
    return build(WrittenQueries, {**QUERIES, **changes}, "source.queries")


def rules(*values: dict[str, Any]) -> tuple[Rule, ...]:
    return tuple(build(Rule, value, f"source.rules[{index}]") for index, value in enumerate(values or (YEAR,)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 400 films and nothing but corpus.jsonl."""
    path = tmp_path_factory.mktemp("films")
    lines = []
    for number in range(400):
        metadata = {
            "year": 1950 + number % 60,
            "cast": [f"Actor {number % 23}", f"Player {number % 17}"],
            "genre": GENRES[number % 3],
        }
        text = f"A story of a {'captain' if number % 2 else 'gardener'} and it's told in number {number}."
        lines.append({"_id": f"f{number}", "title": f"Film {number}", "text": text, "metadata": metadata})
    (path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def opened(path: Path, *values: dict[str, Any], queries: WrittenQueries | None = None, **changes: Any) -> RuleSource:
    given: dict[str, Any] = {
        "skew": 0.5,
        "seed": 3,
        "minimum": 1,
        "train_split": "train",
        "evaluation_splits": ("test",),
    }
    return RuleSource(path=str(path), rules=rules(*values), queries=queries or written(), **{**given, **changes})


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"field": "cast", "measure": "value"}, ("Ann Lee", "Bo")),
        ({"field": "year", "measure": "value"}, ("1987",)),
        ({"field": "year", "measure": "decade"}, ("1980",)),
        ({"field": "text", "measure": "words"}, ("about", "ships")),
        ({"field": "text", "measure": "pattern", "pattern": r"by (\w+ \w+)"}, ("Jo Day",)),
        ({"field": "nothing", "measure": "value"}, ()),
    ],
)
def test_what_a_document_says_of_a_part(part: dict[str, Any], expected: tuple[str, ...]) -> None:
    passage = Passage("d", "about Ships' ships by Jo Day, it about seas'", "T")
    metadata = {"cast": ["Ann Lee", "Bo", "ann lee"], "year": 1987}
    assert sorted(values_of(build(Part, {"name": "x", **part}), passage, metadata)) == sorted(expected)


def test_a_query_has_every_answer_of_its_split_and_splits_share_neither_documents_nor_topics(corpus: Path) -> None:
    plain = write_plain(corpus, written(), 3)
    documents = [json.loads(line) for line in (corpus / "corpus.jsonl").read_text("utf-8").splitlines()]
    assert plain.split_of is not None
    texts = Counter(query.text for queries in plain.queries.values() for query in queries)
    assert max(texts.values()) == 1 and len(texts) > 20
    for split, queries in plain.queries.items():
        its = [line for line in documents if plain.split_of.get(line["_id"]) == split]
        assert [passage.doc_id for passage in plain.documents_of(split)] == [line["_id"] for line in its]
        for query in queries:
            if not query.query_id.startswith("actor-"):
                continue
            name = query.text.split(" with ")[1]
            answers = {line["_id"] for line in its if name in line["metadata"]["cast"]}
            assert set(plain.grades[split][query.query_id]) == answers and 4 <= len(answers) <= 60
    both = [query for query in plain.queries["train"] if query.query_id.startswith("genre_decade-")]
    for query in both:
        genre, decade = query.text.split(" of the ")
        for doc_id in plain.grades["train"][query.query_id]:
            metadata = documents[int(doc_id[1:])]["metadata"]
            assert metadata["genre"] == genre and metadata["year"] // 10 * 10 == int(decade[:-1])
    assert both


def test_spellings_that_differ_in_white_space_case_or_form_of_letters_are_one_topic(tmp_path: Path) -> None:
    spellings = ("Zoë  Hall", "Zoe\u0308 Hall", "zoë\u00a0hall", "Zoë Ｈall ", "Zoë Hall")
    lines = [{"_id": f"f{n}", "text": "x", "metadata": {"cast": [spellings[n % 5]]}} for n in range(50)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    plain = write_plain(tmp_path, written(topics=QUERIES["topics"][:1], splits=[["train", 1.0]]), 3)
    (query,) = plain.queries["train"]
    assert query.text in ("films with Zoë Hall", "movies with Zoë Hall")
    assert len(plain.grades["train"][query.query_id]) == 50


def test_topics_that_write_the_same_text_are_one_query_with_the_answers_of_all(tmp_path: Path) -> None:
    lines = [
        {"_id": f"f{number}", "text": "x", "metadata": {"cast": f"N{number % 5}", "crew": f" n{(number + 1) % 5}"}}
        for number in range(200)
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    topics = [
        {"name": name, "parts": [{"name": "who", "field": name, "measure": "value"}], "texts": [text]}
        for name, text in (("cast", "films by {who}"), ("crew", "Films by  {who}"))
    ]
    plain = write_plain(tmp_path, written(topics=topics, splits=[["train", 1.0]], most=100), 3)
    assert [query.query_id.split("-")[0] for query in plain.queries["train"]] == ["cast"] * 5
    for query in plain.queries["train"]:
        number = int(query.text.removeprefix("films by N"))
        expected = {f"f{place}" for place in range(200) if number in (place % 5, (place + 1) % 5)}
        assert set(plain.grades["train"][query.query_id]) == expected and len(expected) == 80
    words = "5 texts of queries are written by several topics and have the answers of all of them"
    assert plain.remarks == (f"source.queries: {words} (first: 'films by N0' of cast, crew)",)
    one = write_plain(tmp_path, written(topics=topics[:1], splits=[["train", 1.0]]), 3)
    assert one.remarks == () and one.revision != plain.revision


def test_the_same_folder_and_seed_give_the_same_queries_and_another_seed_others(corpus: Path) -> None:
    assert write_plain(corpus, written(), 3) == write_plain(corpus, written(), 3)
    assert write_plain(corpus, written(), 3).split_of != write_plain(corpus, written(), 4).split_of
    small = write_plain(corpus, written(splits=[["train", 0.2]]), 3)
    whole = write_plain(corpus, written(splits=[["train", 0.6]]), 3)
    assert small.split_of is not None and whole.split_of is not None
    assert 0 < len(small.split_of) < len(whole.split_of) < 400 and small.split_of.items() <= whole.split_of.items()


def test_one_row_a_query_over_its_rules_in_turn(corpus: Path) -> None:
    rows = list(opened(corpus, YEAR, GENRE).rows())
    assert max(Counter(row.query_id for row in rows).values()) == 1
    assert {row.row_id.split(":")[1] for row in rows} == {"year", "genre"}
    several = list(opened(corpus, YEAR, GENRE, queries=written(rows_per_query=4)).rows())
    by_query: dict[str, list[str]] = {}
    for row in several:
        by_query.setdefault(row.query_id, []).append(row.row_id.split(":")[1])
    assert max(map(len, by_query.values())) == 4
    assert all(set(names[:2]) == {"year", "genre"} for names in by_query.values() if len(set(names)) == 2)


def test_a_row_knows_all_answers_and_a_broad_instruction(corpus: Path) -> None:
    source = opened(corpus)
    of_train = {passage.doc_id for passage in source.documents()}
    for row in source.rows():
        assert {*row.positives, *row.instruction_negatives} <= set(row.answers) <= of_train
        assert row.broad in ("Any year.", "Any time.")
    assert of_train.isdisjoint(passage.doc_id for passage in source.evaluation_set("test").documents)


def test_a_margin_keeps_training_pairs_from_the_bound_and_evaluation_whole(corpus: Path) -> None:
    near, far = opened(corpus), opened(corpus, margin=0.5)
    assert near.evaluation_set("test") == far.evaluation_set("test")
    year = {f"f{number}": 1950 + number % 60 for number in range(400)}

    def gap(source: RuleSource) -> float:
        gaps = [abs(year[row.positives[0]] - year[row.instruction_negatives[0]]) for row in source.rows()]
        return sum(gaps) / len(gaps)

    assert gap(far) > 1.2 * gap(near)
    for case in far.cases("train"):
        assert case.satisfying and case.violating


def test_a_share_on_both_sides_is_asked_of_a_bound(corpus: Path) -> None:
    for case in opened(corpus, GENRE, minimum_share=0.4, queries=written(topics=QUERIES["topics"][:1])).cases("train"):
        sizes = len(case.satisfying), len(case.violating)
        assert min(sizes) >= 0.4 * sum(sizes)


def test_seen_and_unseen_wordings_are_sets_of_their_own_over_the_same_documents(corpus: Path) -> None:
    source = opened(corpus, {**YEAR, "evaluation_wordings": HELD_OUT}, evaluation_splits=("test", "test_seen"))
    assert source.evaluation_names == ("train", "dev", "test", "dev_seen", "test_seen")
    unseen, seen = source.evaluation_set("test"), source.evaluation_set("test_seen")
    assert (unseen.documents, unseen.qrels) == (seen.documents, seen.qrels)
    assert (unseen.name.rpartition("/")[2], seen.name.rpartition("/")[2]) == ("test", "test_seen")
    trained = {row.instruction.removeprefix("Only ").removeprefix("Just ") for row in source.rows()}
    assert {text.split()[0] for text in trained} == {"from", "since", "before", "till"}
    for bed, marks in ((unseen, ("least", "newer", "sooner", "ahead")), (seen, ("from", "since", "before", "till"))):
        posed = [query.instruction for query in bed.queries if query.condition in ("changed", "reversed")]
        assert posed and all(any(mark in text for mark in marks) for text in posed)
    assert set(seen.clusters["template"].values()) == {"year: from {value} on", "year: since {value}"}
    assert opened(corpus).evaluation_names == ("train", "dev", "test")


def test_few_wordings_are_as_many_at_most_and_change_no_evaluation_set(corpus: Path) -> None:
    many, few = opened(corpus, queries=written(least=2)), opened(corpus, num_wordings=2, queries=written(least=2))
    assert few.evaluation_set("test") == many.evaluation_set("test")

    def shapes(source: RuleSource) -> set[str]:
        return {"".join(c for c in row.instruction if not c.isdigit()) for row in source.rows()}

    assert len(shapes(many)) == 8 and len(shapes(few)) <= 4
    assert all(row.paraphrase != row.instruction for row in many.rows())


def test_a_plain_query_is_what_every_instruction_of_it_narrows(corpus: Path) -> None:
    bed = opened(corpus, YEAR, GENRE).evaluation_set("test")
    ids = [passage.doc_id for passage in bed.documents]
    rankings = [Ranking(query.query_id, tuple(ids), tuple(float(-i) for i in range(len(ids)))) for query in bed.queries]
    scores = [score for score in score_set(bed, rankings).scores if score.measure == "instruction gain"]
    assert len(scores) == sum(query.condition != "plain" for query in bed.queries)
    assert {score.value for score in scores} == {0.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"splits": []}, "splits: the shares add to 0"),
        ({"splits": [["train", 0.7], ["test", 0.7]]}, "splits: the shares add to 1.4"),
        ({"splits": [["a/b", 0.7]]}, r"splits\[0\]: 'a/b' is no name of its own"),
        ({"splits": [["a", 0.1], ["a", 0.1]]}, r"splits\[1\]: 'a' is no name of its own"),
        ({"splits": [["a", 0.0]]}, "the share of 'a' is 0"),
        ({"most": 3}, "most=3 is less than source.queries.least=4"),
        ({"topics": []}, "topics is empty"),
        ({"topics": [QUERIES["topics"][0]] * 2}, "name='actor' is there twice"),
        ({"topics": [{**QUERIES["topics"][0], "name": "a-b"}]}, "name='a-b' goes into ids"),
        ({"topics": [{**QUERIES["topics"][0], "texts": []}]}, "texts is empty"),
        ({"topics": [{**QUERIES["topics"][0], "texts": ["films"]}]}, "does not name {actor}, which the topic is about"),
        ({"topics": [{**QUERIES["topics"][0], "texts": ["[by {actor}|films]"]}]}, "does not name {actor}"),
        ({"topics": [{**QUERIES["topics"][0], "texts": ["by {actor} {x}"]}]}, "has {x}, which is not known here"),
        ({"topics": [{**QUERIES["topics"][0], "parts": []}]}, "must name at least one part"),
        (
            {"topics": [{**QUERIES["topics"][2], "parts": [{"name": "word", "field": "text", "measure": "pattern"}]}]},
            "measure pattern and a pattern go together",
        ),
        (
            {
                "topics": [
                    {
                        **QUERIES["topics"][2],
                        "parts": [{"name": "word", "field": "text", "measure": "pattern", "pattern": "("}],
                    }
                ]
            },
            "is no regular expression",
        ),
        (
            {
                "topics": [
                    {
                        **QUERIES["topics"][2],
                        "parts": [{"name": "word", "field": "text", "measure": "pattern", "pattern": "a"}],
                    }
                ]
            },
            "has 0 groups; it takes one",
        ),
    ],
)
def test_declarations_that_make_no_sense(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_queries(written(**changes))


def test_errors_of_a_corpus(corpus: Path) -> None:
    topic = {"name": "x", "parts": [{"name": "x", "field": "yaer", "measure": "value"}], "texts": ["{x}"]}
    with pytest.raises(
        UserError, match=r"no document of .* has a value of field 'yaer'; known fields: title, text, year"
    ):
        write_plain(corpus, written(topics=[topic]), 0)
    for field, measure, wanted in (("cast", "decade", "a number"), ("year", "words", "a text")):
        topic["parts"] = [{"name": "x", "field": field, "measure": measure}]
        with pytest.raises(
            UserError, match=f"field '{field}' of document 'f0' is .*; measure {measure} takes {wanted}"
        ):
            write_plain(corpus, written(topics=[topic]), 0)
    with pytest.raises(UserError, match="source.own_document=keep is about queries of the folder"):
        opened(corpus, own_document="keep")
    with pytest.raises(
        UserError, match="evaluation_splits='x' has no labels in source.queries; splits with labels: train"
    ):
        opened(corpus, evaluation_splits=("x",))
    with pytest.raises(UserError, match="none of the 0 plain queries of split 'train' has"):
        opened(corpus, queries=written(least=1000, most=2000))


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        (("[since {value}|x {value}]", "[y {value}|z {value}]"), "'since {value}' is not held out, training has it"),
        (("[only before {value}|x {value}]", "[y {value}|z {value}]"), "not held out, training has it .as 'before"),
        (
            ("[old {value}|x {value}]", "[not old {value}|z {value}]"),
            "'old {value}' is not held out, the opposite side",
        ),
        (("[a {value}|x {value}]", "[y {value}|z {value}|w {value}]"), "brackets of 2 options and violating of 3"),
    ],
)
def test_a_wording_that_is_held_out_shares_no_clause(held_out: tuple[str, str], said: str) -> None:
    wording = {"satisfying": held_out[0], "violating": held_out[1]}
    with pytest.raises(UserError, match=said):
        check_rules(rules({**YEAR, "evaluation_wordings": [wording]}))


@pytest.mark.parametrize(
    "trained", [("Made {value} or later.", "Old {value}."), ("[Made|x] {value} or later", "[o|p] {value}")]
)
@pytest.mark.parametrize(
    "held_out", [("made {value}, or  later", "y {value}"), ("[z|Made] {value} or later.", "[q|r] {value}")]
)
def test_a_wording_that_is_held_out_is_none_of_training_on_either_side(
    trained: tuple[str, str], held_out: tuple[str, str]
) -> None:
    def wordings(pair: tuple[str, str], first: str) -> list[dict[str, str]]:
        second = "violating" if first == "satisfying" else "satisfying"
        return [{first: pair[0], second: pair[1]}]

    for side in ("satisfying", "violating"):
        for its in ("satisfying", "violating"):
            wrong = {"wordings": wordings(trained, side), "evaluation_wordings": wordings(held_out, its)}
            with pytest.raises(
                UserError, match=rf"evaluation_wordings\[0\].{its}: .*[Mm]ade .* is not held out, training"
            ):
                check_rules(rules({**YEAR, **wrong}))
        new = wordings(("Made {value} or earlier.", "New {value}."), side)
        check_rules(rules({**YEAR, "wordings": wordings(trained, side), "evaluation_wordings": new}))


def test_a_wording_of_too_many_texts_is_refused_at_its_key() -> None:
    for name in ("wordings", "evaluation_wordings"):
        many = {side: f"{side} {{value}}" + "[a|b]" * 30 for side in ("satisfying", "violating")}
        with pytest.raises(
            UserError, match=rf"source.rules\[0\].{name}\[0\].satisfying: its .* 1,073,741,824 texts, and at"
        ):
            check_rules(rules({**YEAR, name: [many]}))


def test_a_rule_is_left_out_by_its_name_and_a_wrong_one_is_told(corpus: Path) -> None:
    recipe = strict(
        load(
            [
                "source=films_written",
                override("source.path", str(corpus)),
                "source.only=[year]",
                "+experiment=dual_view",
            ]
        )
    ).recipe
    assert [rule.name for rule in recipe.source.rules] == ["year", "genre"]  # type: ignore[union-attr]
    wrong = strict(load(["source=films_written", override("source.path", str(corpus)), "source.only=[yaer]"])).recipe
    with pytest.raises(UserError, match="source.only has 'yaer', which no rule is called; rules: year, genre"):
        open_source(wrong.source, wrong.evaluation.sets)


def test_the_shipped_source_writes_two_thousand_training_queries_about_real_films() -> None:
    path = data_folder("movies")
    source = yaml.safe_load((ROOT / "conf" / "source" / "films_written.yaml").read_text("utf-8"))["source"]
    recipe = strict(load(["source=films_written", override("source.path", str(path))])).recipe
    films = open_source(recipe.source, recipe.evaluation.sets)
    assert isinstance(films, RuleSource) and source["queries"]["rows_per_query"] == 1
    rows = list(films.rows())
    assert len({row.query_id for row in rows}) == len(rows) >= 2000
    years = {
        line["_id"]: line["metadata"]["year"]
        for line in map(json.loads, (path / "corpus.jsonl").read_text("utf-8").splitlines())
    }
    for case in films.cases("test"):
        if case.rule.name == "year":
            assert {years[doc_id] >= case.constraint.value for doc_id in case.satisfying} == {True}  # type: ignore
            assert not any(satisfied(case.constraint, years[doc_id]) for doc_id in case.violating)
    assert len(films.evaluation_set("test").opposites) > 300


def test_the_truth_of_a_row_is_read_back_from_its_words_alone(corpus: Path) -> None:
    source = opened(corpus, YEAR, GENRE)
    truth = RuleTruth(source)
    for row in source.rows():
        positive, partner = row.positives[0], row.instruction_negatives[0]
        for instruction, right, wrong in (
            (row.instruction, positive, partner),
            (row.paraphrase or row.instruction, positive, partner),
            (row.reversed_instruction, partner, positive),
        ):
            assert truth.is_relevant(row.query_id, row.query, instruction, right) is True
            assert truth.is_relevant(row.query_id, row.query, instruction, wrong) is False
        kind = truth.constraint_type(row.query_id, row.query, row.instruction, row.reversed_instruction, positive)
        assert kind == row.row_id.split(":")[1]
