"""The generated world: labels are checked against what the texts say, splits by exact sets, bytes by golden hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import statistics
from collections import Counter
from functools import cache
from itertools import islice

import pytest

from ablate.data.sources import open_source
from ablate.data.world import EVALUATION_NAMES, World
from ablate.data.world.documents import BESIDE, DESCRIBED, WAYS_SAID, Draws, said_attributes
from ablate.data.world.instructions import Demand, Wording, broad_instruction, other_wording, write_instruction
from ablate.data.world.plan import make_plan, near_topic
from ablate.data.world.tables import FORMS, SPLITS, domains, in_words, shared, with_article
from ablate.recipe.schema import WorldSource
from ablate.records import EvaluationSet, SourceRow, UserError


@cache
def world(documents: int = 5000, skew: float = 0.9, shortcut: float = 0.9, seed: int = 7) -> World:
    return World(seed=seed, documents=documents, skew=skew, shortcut=shortcut)


@cache
def rows(skew: float = 0.9, shortcut: float = 0.9) -> tuple[SourceRow, ...]:
    return tuple(world(skew=skew, shortcut=shortcut).rows())


@cache
def texts() -> dict[str, str]:
    return {passage.doc_id: passage.text for passage in world().documents()}


@cache
def evaluation_set(name: str) -> EvaluationSet:
    return world().evaluation_set(name)


DOMAINS = {domain.name: domain for domain in domains()}


@cache
def clause_book(domain_name: str, voice: str) -> dict[str, tuple[int, int]]:
    """Map every clause of a domain in one split to its attribute and level; no clause stands for two."""
    book: dict[str, tuple[int, int]] = {}
    for by_attribute in DOMAINS[domain_name].clauses[voice]:
        for attribute, by_level in enumerate(by_attribute):
            for level, ways in enumerate(by_level):
                for way in ways:
                    assert book.setdefault(way.lower(), (attribute, level)) == (attribute, level), way
    return book


@cache
def levels_said(doc_id: str) -> dict[int, int]:
    """Read attributes and their levels out of the text, knowing the tables but nothing of the generator.

    Whatever is said twice must say the same, and every text speaks of two attributes.
    """
    domain = DOMAINS[doc_id.split("-")[0]]
    book = clause_book(domain.name, "train" if doc_id[-2] == "." else "evaluation")
    said: dict[int, list[int]] = {}
    for sentence in texts()[doc_id].lower()[:-1].split(". "):
        for prefix in (text for by_style in shared().prefixes for text in by_style):
            sentence = sentence.removeprefix(prefix)
        if sentence in book:
            attribute, level = book[sentence]
            said.setdefault(attribute, []).append(level)
    assert len(said) == 2, f"{doc_id} says {said}: {texts()[doc_id]}"
    assert all(len(levels) == WAYS_SAID and len(set(levels)) == 1 for levels in said.values()), (doc_id, said)
    return {attribute: levels[0] for attribute, levels in said.items()}


@cache
def demand_read(instruction: str, domain_name: str, split: str) -> Demand | None:
    """Read a single demand out of an instruction by templates and phrases; None when it holds two."""
    domain = DOMAINS[domain_name]
    phrases = {
        phrase: Demand(constraint, usual)
        for asks in domain.asks
        for constraint in asks
        for usual in (True, False)
        for phrase in (constraint.usual if usual else constraint.complement)[split]
    }
    for template in (text for form in FORMS for text in shared().templates[split][form]):
        pattern = re.escape(template).replace(r"\{n\}", domain.noun)
        pattern = pattern.replace(r"\{p\}", "(?P<p>.+)").replace(r"\{q\}", "(?P<q>.+)")
        if match := re.fullmatch(pattern, instruction):
            wanted = phrases.get(match.groupdict().get("p") or "")
            unwanted = phrases.get(match.groupdict().get("q") or "")
            if unwanted is not None:
                opposite = unwanted._replace(usual=not unwanted.usual)
                assert wanted in (None, opposite), instruction
                return opposite
            return wanted
    raise AssertionError(f"no template of {split} gives {instruction!r}")


def satisfies(doc_id: str, demand: Demand) -> bool:
    return demand.holds(levels_said(doc_id)[demand.constraint.attribute])


def test_golden_bytes() -> None:
    small = World(seed=1, documents=600, skew=0.9, shortcut=0.9)
    documents = hashlib.sha256("\n".join(f"{p.doc_id}\t{p.title}\t{p.text}" for p in small.documents()).encode())
    written = hashlib.sha256("\n".join(repr(row) for row in small.rows()).encode())
    posed = hashlib.sha256(
        "\n".join(
            repr((s.queries, sorted(s.qrels.items()), sorted(s.changed_documents.items()), s.opposites))
            for s in (small.evaluation_set(name) for name in EVALUATION_NAMES)
        ).encode()
    )
    assert (small.revision, documents.hexdigest()[:16], written.hexdigest()[:16], posed.hexdigest()[:16]) == GOLDEN


GOLDEN = ("2-66599c5618db", "8fb867a65dd8315d", "ec7f9642ba170f4b", "bc683862586455a5")


@pytest.mark.parametrize("documents", [600, 601, 1234, 5000, 7500])
def test_a_world_has_exactly_as_many_documents_as_asked(documents: int) -> None:
    ids = [passage.doc_id for passage in world(documents).documents()]
    assert len(ids) == len(set(ids)) == documents


@pytest.mark.parametrize("documents", [30_001, 1_000_000, 10_000_000])
def test_large_plans_add_up_and_keep_evaluation_small(documents: int) -> None:
    plan = make_plan(1, documents)
    evaluated = [topic for name in EVALUATION_NAMES for topic in plan.evaluation(name)]
    total = 2 * sum(topic.contents + topic.num_near for topic in plan.train)
    total += sum(topic.contents + topic.num_near for topic in evaluated)
    slugs = [topic.slug for topic in (*plan.train, *evaluated)]
    assert total == documents
    assert len(slugs) == len(set(slugs))
    assert len(plan.test) == 4 * 60 and sum(topic.contents + topic.num_near for topic in plan.test) <= 4000
    names = [topic.name for topic in (*plan.train, *evaluated)]
    assert len(set(names)) == len(names), "a topic that includes another would make labels wrong"
    if documents == 1_000_000:
        assert max(topic.contents + topic.num_near for topic in plan.train) <= 36


def test_a_large_world_starts_streaming_at_once() -> None:
    first = list(islice(World(seed=1, documents=1_000_000, skew=0.9, shortcut=0.9).documents(), 200))
    assert len({passage.text for passage in first}) == 200


def test_content_is_as_rich_as_promised() -> None:
    assert len(domains()) >= 8
    assert sum(domain.held_out for domain in domains()) == 2
    for domain in domains():
        names = [name for texts in domain.topics for name in (texts.name, texts.sibling)]
        assert len(domain.topics) >= 20 and len(names) == len(set(names))
        for texts in domain.topics:
            assert not set(texts.name.split()) & set(texts.description.split()) - {"and", "in"}, texts
        assert len(domain.attributes) == len(set(domain.attributes)) >= 5
        if not domain.held_out:
            assert len(domain.requests["train"]) >= 12
            assert not set(domain.requests["train"]) & set(domain.requests["evaluation"])
        for attribute in range(len(domain.attributes)):
            by_level = [level for by_style in domain.clauses.values() for level in by_style[1][attribute]]
            ways = [way for level in by_level for way in level]
            assert len(ways) == len(set(ways)), f"{domain.name}: a clause of {domain.attributes[attribute]} is doubled"
            assert all(len(level) >= 4 for level in by_level)
    kinds = {"category", "numeric", "date", "presence", "audience", "source", "format", "length"}
    assert {constraint.kind for domain in domains() for asks in domain.asks for constraint in asks} == kinds


def test_documents_are_clean_prose_of_25_to_80_words() -> None:
    lengths = [len(text.split()) for text in texts().values()]
    assert min(lengths) >= 25
    assert max(lengths) <= 80
    assert 40 <= statistics.mean(lengths) <= 50
    for doc_id, text in texts().items():
        assert not re.search(r"[{}]|  |\.\.|,,| \.|None", text), text
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [^aeiouA-Z\W]", text), text
        assert all(sentence[0].isupper() or sentence[0].isdigit() for sentence in text.split(". ")), text
        assert text.endswith("."), doc_id


def test_instructions_are_clean_prose() -> None:
    asked = [row.instruction for row in rows()] + [row.paraphrase for row in rows()]
    asked += [query.instruction for name in EVALUATION_NAMES for query in evaluation_set(name).queries]
    for text in filter(None, asked):
        assert not re.search(r"[{}]|  |\.\.|\b[Aa] [aeio]|\b[Aa]n [^aeiouA-Z\W]", text), text


def test_both_renderings_of_a_content_say_the_same_and_differ_in_habit() -> None:
    for doc_id in islice((key for key in texts() if key.endswith(".a")), 300):
        twin = doc_id[:-1] + "b"
        assert levels_said(doc_id) == levels_said(twin)
        assert texts()[doc_id] != texts()[twin]
        closing = [
            next(i for i, ends in enumerate(shared().closers["train"]) if texts()[key].lower()[:-1].endswith(ends))
            for key in (doc_id, twin)
        ]
        assert closing == [0, 1]


@pytest.mark.parametrize("name", EVALUATION_NAMES)
def test_qrels_follow_from_what_the_texts_say(name: str) -> None:
    bed = evaluation_set(name)
    checked = 0
    for query in bed.queries:
        stem = query.base_id.removeprefix(f"{name}-").rsplit("-", 3)[0]
        topic = [document.doc_id for document in bed.documents if document.doc_id.rsplit("-", 1)[0] == stem]
        relevant = set(bed.qrels[query.query_id])
        if query.condition in ("plain", "original"):
            assert relevant == set(topic)
            assert query.query_id not in bed.changed_documents
            assert query.direction == query.condition
            continue
        assert set(bed.changed_documents[query.query_id]) == set(topic) - relevant
        demand = demand_read(query.instruction, stem.split("-")[0], "evaluation")
        if "-combined-" in query.base_id:
            continue
        assert demand is not None
        assert demand.usual == (query.condition == "changed") == (query.direction == "usual")
        assert relevant == {doc_id for doc_id in topic if satisfies(doc_id, demand)}
        checked += 1
    assert checked > 0.6 * len(bed.opposites) * 2


@pytest.mark.parametrize("name", EVALUATION_NAMES)
def test_evaluation_sets_are_balanced(name: str) -> None:
    bed = evaluation_set(name)
    assert len(bed.opposites) == {"dev": 270, "test": 300, "heldout": 280}[name]
    assert len(bed.queries) == 4 * len(bed.opposites)
    assert len({query.query_id for query in bed.queries}) == len(bed.queries)
    shares = []
    for changed, reverse in bed.opposites:
        one, other = bed.qrels[changed], bed.qrels[reverse]
        assert not set(one) & set(other)
        assert min(len(one), len(other)) >= 2
        plain = bed.qrels[changed.replace("-changed", "-plain")]
        if "-combined-" not in changed:
            assert set(one) | set(other) == set(plain)
            shares.append(len(one) / len(plain))
    assert sum(0.29 <= share <= 0.71 for share in shares) >= 0.95 * len(shares)
    forms = Counter(changed.split("-")[-2] for changed, _ in bed.opposites)
    assert set(forms) == set(FORMS)
    for form, count in forms.items():
        assert abs(count / len(bed.opposites) - 1 / len(FORMS)) < 0.01, form
    kinds = Counter(changed.split("-")[-3] for changed, _ in bed.opposites)
    assert len(kinds) == 8 and min(kinds.values()) >= 24 and max(kinds.values()) <= 0.25 * len(bed.opposites)
    crossed = Counter(tuple(changed.split("-")[-3:-1]) for changed, _ in bed.opposites)
    assert all(abs(crossed[kind, form] - count / 4) < 1 for kind, count in kinds.items() for form in FORMS)
    ornate = sum(document.text.lower()[:-1].endswith(shared().closers["evaluation"][1]) for document in bed.documents)
    assert 0.4 < ornate / len(bed.documents) < 0.6


@pytest.mark.parametrize("name", EVALUATION_NAMES)
def test_every_base_query_is_in_a_cluster_of_each_kind(name: str) -> None:
    bed = evaluation_set(name)
    bases = {query.base_id for query in bed.queries}
    assert list(bed.clusters) == ["constraint", "template", "topic", "form", "kind"]
    assert all(set(members) == bases for members in bed.clusters.values())
    for base_id in bases:
        constraint, template, topic, form, kind = (members[base_id] for members in bed.clusters.values())
        domain, attribute = constraint.split(".")
        assert attribute in DOMAINS[domain].attributes and base_id.startswith(f"{name}-{topic}-")
        assert base_id.endswith(f"-{kind}-{form}") and template.rpartition("-")[0] == form
    number = {kind: len(set(members.values())) for kind, members in bed.clusters.items()}
    assert number["template"] == sum(map(len, shared().templates["evaluation"].values()))
    assert number["form"] == len(FORMS) and number["constraint"] >= 10


def test_base_queries_of_one_template_are_worded_alike() -> None:
    """Under an instruction of one template all words but those of the demand and the noun are the same."""
    bed = evaluation_set("test")
    starts: dict[str, set[str]] = {}
    for query in bed.queries:
        if query.condition == "changed":
            starts.setdefault(bed.clusters["template"][query.base_id], set()).add(query.instruction.split()[0])
    assert all(len(words) == 1 for words in starts.values()) and len(starts) == 11


def test_rows_follow_from_what_the_texts_say() -> None:
    checked = 0
    for row in rows()[::3]:
        domain = row.row_id.split("-")[0]
        demand = demand_read(row.instruction, domain, "train")
        if demand is None:
            continue
        checked += 1
        assert demand_read(row.reversed_instruction, domain, "train") == demand._replace(usual=not demand.usual)
        same = demand_read(row.paraphrase, domain, "train")
        assert same is not None
        assert (same.constraint.attribute, same.usual) == (demand.constraint.attribute, demand.usual)
        assert satisfies(row.positives[0], demand)
        for doc_id in row.instruction_negatives:
            assert not satisfies(doc_id, demand)
        assert row.still_negative == ()
    assert checked > 1000


def test_rows_are_complete_and_consistent() -> None:
    ids = [row.row_id for row in rows()]
    queries = Counter(row.query_id for row in rows())
    assert len(ids) == len(set(ids)) >= 4500
    assert set(queries.values()) == {2, 3, 4} and len(queries) == 1440
    combined = 0
    for row in rows():
        topic = row.query_id.rsplit("-", 1)[0]
        own = {key for key in texts() if key.rsplit("-", 1)[0] == topic} if row.row_id.endswith("q00-0") else None
        assert own is None or set(row.answers) == own
        assert len(row.positives) == 1 and len(row.instruction_negatives) >= 3 and len(row.hard_negatives) >= 8
        named = (*row.positives, *row.instruction_negatives, *row.hard_negatives)
        assert len(named) == len(set(named))
        assert {*row.positives, *row.instruction_negatives} <= set(row.answers)
        assert not set(row.hard_negatives) & set(row.answers)
        assert all(doc_id.split("-")[0] == row.row_id.split("-")[0] for doc_id in row.hard_negatives)
        assert sum(doc_id.startswith(f"{topic}-near-") for doc_id in row.hard_negatives) == 3
        assert set(row.still_negative) <= set(row.instruction_negatives[1:])
        assert len({row.instruction, row.reversed_instruction, row.paraphrase}) == 3
        combined += bool(row.still_negative)
    assert 0.1 < combined / len(rows()) < 0.2


def test_what_a_small_world_keeps_is_what_a_large_one_makes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = World(seed=7, documents=1200, skew=0.9, shortcut=0.9)
    assert kept.evaluation_set("dev") is kept.evaluation_set("dev")
    first, again = list(kept.rows()), list(kept.rows())
    assert all(row is other for row, other in zip(first, again, strict=True))
    monkeypatch.setattr("ablate.data.world._KEPT_DOCUMENTS", 0)
    made = World(seed=7, documents=1200, skew=0.9, shortcut=0.9)
    for _ in range(2):
        assert list(made.rows()) == first and made.evaluation_set("dev") == kept.evaluation_set("dev")
    assert made.evaluation_set("dev") is not made.evaluation_set("dev")


def test_runs_of_one_process_share_a_world_if_all_of_it_is_the_same() -> None:
    source = WorldSource(kind="world", seed=3, documents=600, skew=0.9, shortcut=0.9, rows="complete")
    opened = open_source(source, ("test",))
    assert open_source(dataclasses.replace(source, rows="all"), ()) is opened
    for key, value in {"seed": 4, "documents": 700, "skew": 0.5, "shortcut": 0.0}.items():
        other = open_source(dataclasses.replace(source, **{key: value}), ())
        assert other is not opened and list(other.rows()) != list(opened.rows()), key


def test_rows_say_which_side_they_ask_for_and_name_their_passages_in_both_styles() -> None:
    for row in rows():
        other = {"a": "b", "b": "a"}
        assert row.restyled == tuple(f"{doc_id[:-1]}{other[doc_id[-1]]}" for doc_id in row.of_both_sides)
        assert set(row.restyled) <= set(row.answers)
        assert row.in_other_style(row.positives) == row.restyled[:1]
        assert row.in_other_style(row.instruction_negatives) == row.restyled[1:]
    assert {row.asks_usual for row in rows(skew=1.0)} == {True}
    always = {row.row_id: row.instruction for row in rows(skew=1.0)}
    assert all(row.asks_usual == (row.instruction == always[row.row_id]) for row in rows())


def test_skew_turns_instructions_and_swaps_the_same_two_passages() -> None:
    always, often, fair = rows(skew=1.0), rows(skew=0.9), rows(skew=0.5)
    for one, other in zip(always, often, strict=True):
        stems = [{row.positives[0][:-2], row.instruction_negatives[0][:-2]} for row in (one, other)]
        assert stems[0] == stems[1]
        assert {one.instruction, one.reversed_instruction} == {other.instruction, other.reversed_instruction}
        swapped = one.instruction != other.instruction
        assert swapped == (one.positives[0][:-2] == other.instruction_negatives[0][:-2])
        assert one.asks_usual is True and other.asks_usual is not swapped
    agree = [sum(a.instruction == b.instruction for a, b in zip(always, level, strict=True)) for level in (often, fair)]
    assert agree[0] / len(always) == pytest.approx(0.9, abs=0.02)
    assert agree[1] / len(always) == pytest.approx(0.5, abs=0.03)


def test_shortcut_ties_style_to_labels() -> None:
    def share_a(level: float) -> tuple[float, float]:
        found = rows(shortcut=level)
        negatives = [doc_id for row in found for doc_id in row.instruction_negatives]
        return (
            statistics.mean(row.positives[0].endswith(".a") for row in found),
            statistics.mean(doc_id.endswith(".a") for doc_id in negatives),
        )

    assert share_a(1.0) == (1.0, 0.0)
    assert share_a(0.9) == pytest.approx((0.95, 0.05), abs=0.015)
    assert share_a(0.0) == pytest.approx((0.5, 0.5), abs=0.03)
    assert [row.instruction for row in rows(shortcut=0.0)] == [row.instruction for row in rows(shortcut=1.0)]


def test_splits_share_neither_topics_nor_wordings() -> None:
    plan = make_plan(7, 5000)
    named = {name: [each for t in getattr(plan, name) for each in (t, near_topic(t))] for name in plan._fields}
    topics = {name: {(t.domain.name, t.name) for t in both} for name, both in named.items()}
    assert sum(len(found) for found in topics.values()) == len(set().union(*topics.values()))
    assert {name for name, _ in topics["heldout"]} == {d.name for d in domains() if d.held_out}
    assert not {name for name, _ in topics["heldout"]} & {name for name, _ in topics["train"] | topics["test"]}
    trained = {text for row in rows() for text in (row.instruction, row.reversed_instruction, row.paraphrase)}
    posed = {query.instruction for name in EVALUATION_NAMES for query in evaluation_set(name).queries}
    assert not trained & posed
    templates = [{t for form in FORMS for t in shared().templates[split][form]} for split in SPLITS]
    assert not templates[0] & templates[1]
    phrases: dict[str, set[str]] = {split: set() for split in SPLITS}
    for domain in domains():
        for asks in domain.asks:
            for constraint in asks:
                assert constraint.usual.keys() == constraint.complement.keys()
                for split in constraint.usual:
                    assert len(constraint.usual[split]) == len(constraint.complement[split]) >= 2
                    assert not set(constraint.usual[split]) & set(constraint.complement[split])
                    phrases[split] |= {*constraint.usual[split], *constraint.complement[split]}
    assert not phrases["train"] & phrases["evaluation"]


def test_training_and_evaluation_documents_share_no_sentence() -> None:
    trained = {sentence for i in texts() if i[-2] == "." for sentence in texts()[i].lower()[:-1].split(". ")}
    posed = {sentence for i in texts() if i[-2] != "." for sentence in texts()[i].lower()[:-1].split(". ")}
    assert len(trained) > 3000 and len(posed) > 2000
    assert not trained & posed


def test_near_documents_name_the_topic_in_passing_and_are_never_its_answers() -> None:
    for topic in make_plan(7, 5000).test:
        near = near_topic(topic)
        assert said_attributes(near) == said_attributes(topic) and near.contents == 4
        for number in range(near.contents):
            text = texts()[f"{topic.slug}-near-{number:04d}"]
            assert topic.name in text.lower() and near.name in text.lower().split(". ")[0], text
    judged = {doc_id for relevant in evaluation_set("test").qrels.values() for doc_id in relevant}
    assert not any("-near-" in doc_id for doc_id in judged)


def test_some_documents_of_a_topic_do_not_name_it_and_some_mention_its_sibling() -> None:
    own = [(topic, f"{topic.slug}-{i:04d}") for topic in make_plan(7, 5000).test for i in range(topic.contents)]
    described = sum(topic.name not in texts()[doc_id].lower().split(". ")[0] for topic, doc_id in own)
    aside = sum(topic.sibling in texts()[doc_id].lower() for topic, doc_id in own)
    assert described / len(own) == pytest.approx(1 / DESCRIBED, abs=0.06)
    assert aside / len(own) == pytest.approx(1 / BESIDE, abs=0.06)


def test_numbers_lie_on_both_sides_of_every_threshold_and_near_it() -> None:
    """Read from what documents say: for each threshold asked about, a number within a quarter of it on either side."""
    asked: dict[str, set[int]] = {}
    for query in evaluation_set("test").queries:
        if "-numeric-" in query.base_id and "-jobs-" not in query.base_id:
            numbers = [int(n) for n in re.findall(r"\d+(?= euros)", query.instruction)]
            asked.setdefault(query.base_id.split("-")[1], set()).update(numbers)
    assert len(asked) == 4 and all(len(thresholds) >= 2 for thresholds in asked.values())
    for domain, thresholds in asked.items():
        own = [text for doc_id, text in texts().items() if doc_id.startswith(domain) and doc_id[-2] != "."]
        numbers = {int(n) for text in own for n in re.findall(r"\d+(?= euros)", text)}
        for threshold in thresholds:
            assert any(0.75 * threshold < n < threshold for n in numbers), (domain, threshold)
            assert any(threshold < n < 1.25 * threshold for n in numbers), (domain, threshold)


def test_another_seed_gives_another_world() -> None:
    assert {t.name for t in make_plan(1, 5000).test} != {t.name for t in make_plan(2, 5000).test}


def test_passages_come_in_the_order_asked() -> None:
    some = [passage for passage in islice(world().documents(), 40)]
    asked = [passage.doc_id for passage in reversed(some)]
    assert list(world().passages(asked)) == list(reversed(some))
    own = {row.positives[0] for row in rows()}
    assert {passage.doc_id for passage in world().passages(own)} == own


def test_unknown_passages_are_named() -> None:
    known = next(iter(world().documents())).doc_id
    tested = evaluation_set("test").documents[0].doc_id
    others = (known[:-1] + "c", known.replace("-0000.", "-9999."), known.replace("-0000.", "-0."))
    for wrong in ("nothing", *others, tested):
        with pytest.raises(UserError, match=re.escape(f"world has no training passage {wrong!r}; ask for ids")):
            list(world().passages([wrong]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"documents": 599}, "source.documents=599: must lie between 600 and 10000000; set it to 5000 for the default"),
        ({"documents": 10_000_001}, "source.documents=10000001: must lie between 600 and 10000000"),
        ({"skew": 0.4}, "source.skew=0.4: must lie between 0.5 (no skew) and 1 (always the usual side)"),
        ({"skew": float("nan")}, "source.skew=nan: must lie between 0.5"),
        ({"shortcut": 1.1}, "source.shortcut=1.1: must lie between 0 (style by coin) and 1 (style tells all)"),
    ],
)
def test_nonsense_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        World(**{"seed": 1, "documents": 5000, "skew": 0.9, "shortcut": 0.9, **change})


def test_unknown_evaluation_set_is_refused() -> None:
    with pytest.raises(UserError, match="world has no evaluation set 'train'; choose from dev, test, heldout"):
        world().evaluation_set("train")


def test_wording_of_both_sides_by_hand() -> None:
    presence = next(asks[0] for asks in DOMAINS["lodging"].asks if asks[0].kind == "presence")
    numeric = next(asks[1] for asks in DOMAINS["lodging"].asks if asks[0].kind == "numeric")
    with_pets, cheap = Demand(presence, True), Demand(numeric, True)
    short, negated = Wording("short", 0, 0), Wording("negated", 0, 0)
    assert write_instruction("place", (with_pets,), "train", short) == "Only a place that welcomes dogs and cats."
    assert write_instruction("place", (with_pets,), "train", negated) == (
        "Exclude every place that bans dogs and cats."
    )
    assert write_instruction("place", (cheap, with_pets._replace(usual=False)), "train", negated) == (
        "Exclude every place that is a luxury, over 100 euros or welcomes dogs and cats."
    )
    assert broad_instruction("place", "price", 3) == "Any place will do, whatever the price."


def test_another_wording_is_another_wording() -> None:
    for form in FORMS:
        for template in range(8):
            for draw in range(24):
                wording = Wording(form, template, 0)
                other = other_wording(wording, draw, draw // 6)
                count = len(shared().templates["train"][other.form])
                assert (other.form, other.template) != (form, template % count)


def test_numbers_and_articles() -> None:
    assert [in_words(n) for n in (0, 13, 40, 57, 300, 482)] == [
        "zero",
        "thirteen",
        "forty",
        "fifty-seven",
        "three hundred",
        "four hundred and eighty-two",
    ]
    assert [with_article(noun) for noun in ("lamp", "island cottage")] == ["a lamp", "an island cottage"]


def test_draws_match_the_published_generator() -> None:
    """SplitMix64 from state 1234567 starts with 6457827717110365317 (Rosetta Code, `Pseudo-random numbers`)."""
    assert Draws(1234567).below(1 << 64) == 6457827717110365317
    draws = Draws(3)
    counts = Counter(draws.below(6) for _ in range(6000))
    assert set(counts) == set(range(6)) and all(900 < count < 1100 for count in counts.values())
