"""Each check of the generated world is shown a case that it must see; the shipped world meets every target."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablate.data.world import World
from ablate.data.world.tables import domains
from ablate.records import EvaluationQuery, EvaluationSet, Passage, SourceRow
from ablate.world_checks import (
    WordPairs,
    at_least,
    at_most,
    main,
    obeyed,
    passage_only,
    plain_ndcg,
    report,
    stem_overlap,
    verbatim,
    words_of,
)

TEXTS = {"warm": "crimson and ember hues", "cool": "azure and cobalt hues"}


def row(number: int, *, usual: bool = True) -> SourceRow:
    asked, other = ("red", "blue") if usual else ("blue", "red")
    positive, negative = ("warm", "cool") if usual else ("cool", "warm")
    return SourceRow(
        row_id=f"t{number}-q0-0",
        query_id=f"t{number}-q0",
        query="paint",
        instruction=f"only {asked} ones",
        reversed_instruction=f"only {other} ones",
        paraphrase=f"{asked} ones alone",
        positives=(positive,),
        hard_negatives=(),
        instruction_negatives=(negative,),
        answers=("warm", "cool"),
    )


def bed(first: str, second: str) -> EvaluationSet:
    queries = tuple(
        EvaluationQuery(f"b-colour-short-{condition}", "b-colour-short", "paint", text, condition, direction)
        for condition, text, direction in (
            ("plain", "", "plain"),
            ("changed", "show red ones", "usual"),
            ("reversed", "show blue ones", "unusual"),
        )
    )
    qrels = {
        "b-colour-short-plain": {"x": 1, "y": 1},
        "b-colour-short-changed": {"x": 1},
        "b-colour-short-reversed": {"y": 1},
    }
    changed = {"b-colour-short-changed": ("y",), "b-colour-short-reversed": ("x",)}
    documents = (Passage("x", first), Passage("y", second))
    pairs = (("b-colour-short-changed", "b-colour-short-reversed"),)
    return EvaluationSet("made/up", documents, queries, qrels, changed, pairs)


def test_word_pairs_solve_a_set_of_the_words_of_training_and_no_other() -> None:
    model = WordPairs([row(number, usual=number % 2 == 0) for number in range(20)], TEXTS)
    assert model.margin("only red ones", TEXTS["warm"], TEXTS["cool"]) > 0
    assert model.margin("only blue ones", TEXTS["warm"], TEXTS["cool"]) < 0
    seen = obeyed(model, bed("ember hues", "cobalt hues"))
    assert seen == {"": 1.0, "colour": 1.0, "short": 1.0}
    assert obeyed(model, bed("cherry tones", "navy tones"))[""] == pytest.approx(0.5)


def test_passages_that_tell_their_labels_are_seen() -> None:
    always = [row(number) for number in range(20)]
    assert passage_only(always, TEXTS) == 1.0
    fair = [each for number in range(20) for each in (row(number), replace(row(number, usual=False), row_id="r"))]
    assert passage_only(fair, TEXTS) == pytest.approx(0.5, abs=0.1)


def test_a_clause_in_the_words_of_an_instruction_is_seen() -> None:
    share, shared = stem_overlap(domains())
    assert share <= 0.05 and len(shared) < 60
    plants = next(domain for domain in domains() if domain.name == "plants")
    by_style = plants.clauses["train"]
    told = tuple(tuple((*level, "it grows in sunny places") for level in attribute) for attribute in by_style[1])
    changed = plants._replace(clauses={"train": (by_style[0], told)})
    assert "plants: it grows in sunny places" in stem_overlap([changed])[1]
    assert stem_overlap([changed])[0] > stem_overlap([plants])[0]


def test_sentences_that_stand_in_training_are_counted() -> None:
    own = bed("Ember hues. It is old.", "Cobalt hues.")
    assert verbatim(["Cobalt hues. It is new."], own) == pytest.approx(1 / 3)


def test_words_and_verdicts() -> None:
    assert words_of("It's 20 euros, it's cheap") == ["20", "cheap", "euros", "it", "s"]
    assert at_most("x", 0.5, 0.5).met and not at_most("x", float("nan"), 0.5).met
    assert at_least("x", 24, 24).met and not at_least("x", 23, 24).met
    lines = report([at_most("first", 0.57, 0.56), at_least("second", 30, 24)]).splitlines()
    assert [("MISSED" in line) for line in lines if "first" in line or "second" in line] == [True, False]


def test_the_shipped_world_meets_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["source.seed=7", "evaluation.sets=[test]"]) == 0
    said = capsys.readouterr().out
    assert "MISSED" not in said and "world/test: word pairs, negated" in said and "8 of 8 targets are met" in said


def test_a_missed_target_is_told_by_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablate.world_checks.MOST_PLAIN", 0.1)
    assert main(["source.documents=600", "evaluation.sets=[test]"]) == 1
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dev", "test", "heldout"])
def test_plain_queries_leave_room_to_fall_and_to_rise(name: str) -> None:
    world = World(seed=7, documents=5000, skew=0.5, shortcut=0.0)
    assert 0.5 < plain_ndcg(world.evaluation_set(name)) < 0.9
