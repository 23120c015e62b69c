"""Evaluation sets as folders: what is read back gives the same scores, and what a folder cannot say is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import override

from ablate.data.beir import BeirFolder
from ablate.data.beir_written import reversals_of, write_beir
from ablate.data.world import World
from ablate.evaluation.rankers import Lexical
from ablate.evaluation.scoring import rank_and_score
from ablate.evaluation.summary import Evaluation
from ablate.records import EvaluationQuery, EvaluationSet, Passage, UserError
from ablate.testbed import main


def read(folder: Path, split: str, bed: EvaluationSet) -> EvaluationSet:
    source = BeirFolder(
        path=str(folder),
        train_split=split,
        evaluation_splits=(split,),
        skew=0.5,
        seed=0,
        reversals=reversals_of(bed),
    )
    return source.evaluation_set(split)


def values(bed: EvaluationSet) -> list[tuple[str, str, float]]:
    """Return condition, measure and value of every score of BM25 with instructions, whatever the ids of queries."""
    result: Evaluation = rank_and_score(Lexical(with_instruction=True), [bed], depth=50)
    return sorted((score.condition, score.measure, round(score.value, 12)) for score in result.scores)


@pytest.mark.parametrize("name", ["dev", "heldout"])
def test_a_world_read_back_gives_the_same_scores(tmp_path: Path, name: str) -> None:
    bed = World(seed=3, documents=600, skew=0.5, shortcut=0).evaluation_set(name)
    write_beir(tmp_path / "bed", bed, name)
    again = read(tmp_path / "bed", name, bed)
    assert [passage.text for passage in again.documents] == [passage.text for passage in bed.documents]
    assert [(query.base_id, query.query, query.instruction) for query in again.queries] == [
        (query.base_id, query.query, query.instruction) for query in bed.queries
    ]
    assert values(again) == values(bed)


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    bed = World(seed=3, documents=600, skew=0.5, shortcut=0).evaluation_set("dev")
    files = write_beir(tmp_path / "a", bed, "dev")
    assert files == write_beir(tmp_path / "b", bed, "dev")
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


SMALL = EvaluationSet(
    name="d/test",
    documents=(Passage("d1", "one\nline", "title"), Passage("d2", "two")),
    queries=(
        EvaluationQuery("q", "q", "fish", "", "plain", "plain"),
        EvaluationQuery("q-og", "q", "fish", "Any.", "original", "og"),
        EvaluationQuery("q-new", "q", "fish", "Only new ones.", "changed", "new"),
        EvaluationQuery("q-old", "q", "fish", "Only old ones.", "reversed", "old"),
    ),
    qrels={"q": {"d1": 1, "d2": 1}, "q-og": {"d1": 1, "d2": 1}, "q-new": {"d1": 1}, "q-old": {"d2": 1}},
    changed_documents={"q-new": ("d2",), "q-old": ("d1",)},
    opposites=(("q-new", "q-old"),),
    pairs={("q-new", "q-old"): (("d1", "d2"),)},
)


def test_pairs_and_changed_documents_come_back(tmp_path: Path) -> None:
    write_beir(tmp_path / "d", SMALL, "test")
    again = read(tmp_path / "d", "test", SMALL)
    assert again == dataclasses.replace(SMALL, remarks=again.remarks)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"candidates": {"q": ("d1",)}}, "ranks a list of candidates"),
        ({"own_documents": {"q": "d1"}}, "leaves a query's own document out"),
        ({"queries": (*SMALL.queries, SMALL.queries[2]._replace(query_id="x"))}, "is posed twice as new"),
        ({"queries": (SMALL.queries[2]._replace(direction="../x"),)}, "cannot be the name of a labels file"),
        ({"queries": (SMALL.queries[2]._replace(direction="pairs"),)}, "cannot be the name of a labels file"),
    ],
)
def test_what_a_folder_cannot_say_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        write_beir(tmp_path / "d", dataclasses.replace(SMALL, **change), "test")  # type: ignore[arg-type]
    assert not (tmp_path / "d").exists()


def test_the_command_says_how_to_read_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "world test"
    words = ["dev", "--to", str(target), "source.documents=600", override("runtime.results", tmp_path / "r")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "evaluation.source.reversals=[[usual,unusual]]" in shown and "evaluation.source.train_split=dev" in shown
    assert sorted(path.name for path in target.iterdir()) == ["corpus.jsonl", "qrels", "queries.jsonl"]
    assert main(words) == 2
    assert "is a folder that is not empty" in capsys.readouterr().err
