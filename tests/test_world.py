"""The generated world: labels are checked against what the texts say, splits by exact sets, bytes by golden hashes."""

from __future__ import annotations

import hashlib
import re
import statistics
from collections import Counter
from functools import cache
from itertools import islice

import pytest

from ablate.data.world import EVALUATION_NAMES, World
from ablate.data.world.documents import NUM_SAID, WAYS_SAID, Draws
from ablate.data.world.instructions import Demand, Wording, broad_instruction, other_wording, write_instruction
from ablate.data.world.plan import make_plan
from ablate.data.world.tables import FORM_TURNS, FORMS, SPLITS, domains, in_words, shared, with_article
from ablate.records import EvaluationSet, SourceRow, UserError


@cache
def world(documents: int = 3000, skew: float = 0.9, shortcut: float = 0.9, seed: int = 7) -> World:
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
def clause_book(domain_name: str) -> dict[str, tuple[int, int]]:
    """Map every clause of a domain to its attribute and level; no clause stands for two."""
    book: dict[str, tuple[int, int]] = {}
    for by_attribute in DOMAINS[domain_name].clauses:
        for attribute, by_level in enumerate(by_attribute):
            for level, ways in enumerate(by_level):
                for way in ways:
                    assert book.setdefault(way.lower(), (attribute, level)) == (attribute, level), way
    return book


@cache
def levels_said(doc_id: str) -> dict[int, int]:
    """Read attributes and their levels out of the text, knowing the tables but nothing of the generator.

    Whatever is said twice must say the same, and every text speaks of NUM_SAID attributes.
    """
    domain = DOMAINS[doc_id.split("-")[0]]
    said: dict[int, list[int]] = {}
    for sentence in texts()[doc_id].lower()[:-1].split(". "):
        for prefix in (text for by_style in shared().prefixes for text in by_style):
            sentence = sentence.removeprefix(prefix)
        if sentence in clause_book(domain.name):
            attribute, level = clause_book(domain.name)[sentence]
            said.setdefault(attribute, []).append(level)
    assert len(said) == NUM_SAID, f"{doc_id} says {said}: {texts()[doc_id]}"
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


GOLDEN = ("1-e9e686f65ac9", "1026fedb2cb2fa6f", "984de982cb545cd8", "1bfe7d639cce3e9e")


@pytest.mark.parametrize("documents", [600, 601, 1234, 3000])
def test_a_world_has_exactly_as_many_documents_as_asked(documents: int) -> None:
    ids = [passage.doc_id for passage in world(documents).documents()]
    assert len(ids) == len(set(ids)) == documents


@pytest.mark.parametrize("documents", [30_001, 1_000_000, 10_000_000])
def test_large_plans_add_up_and_keep_evaluation_small(documents: int) -> None:
    plan = make_plan(1, documents)
    evaluated = [topic for name in EVALUATION_NAMES for topic in plan.evaluation(name)]
    total = 2 * sum(topic.contents for topic in plan.train) + sum(topic.contents for topic in evaluated)
    slugs = [topic.slug for topic in (*plan.train, *evaluated)]
    assert total == documents
    assert len(slugs) == len(set(slugs))
    assert sum(topic.contents for topic in plan.test) <= 5280
    if documents == 1_000_000:
        assert max(topic.contents for topic in plan.train) <= 60


def test_a_large_world_starts_streaming_at_once() -> None:
    first = list(islice(World(seed=1, documents=1_000_000, skew=0.9, shortcut=0.9).documents(), 200))
    assert len({passage.text for passage in first}) == 200


def test_content_is_as_rich_as_promised() -> None:
    assert len(domains()) >= 8
    assert sum(domain.held_out for domain in domains()) == 2
    for domain in domains():
        assert len(domain.topics) == len(set(domain.topics)) >= 15
        assert len(domain.attributes) == len(set(domain.attributes)) >= 5
        if not domain.held_out:
            assert len(domain.requests["train"]) >= 12
            assert not set(domain.requests["train"]) & set(domain.requests["evaluation"])
        for attribute in range(len(domain.attributes)):
            ways = [way for level in domain.clauses[1][attribute] for way in level]
            assert len(ways) == len(set(ways)), f"{domain.name}: a clause of {domain.attributes[attribute]} is doubled"
            assert all(len(level) >= 4 for level in domain.clauses[1][attribute])
    kinds = {"category", "numeric", "date", "presence", "audience", "source", "format", "length"}
    assert {constraint.kind for domain in domains() for asks in domain.asks for constraint in asks} == kinds


def test_documents_are_clean_prose_of_40_to_150_words() -> None:
    lengths = [len(text.split()) for text in texts().values()]
    assert min(lengths) >= 40
    assert max(lengths) <= 150
    assert 55 <= statistics.mean(lengths) <= 72
    for doc_id, text in texts().items():
        assert not re.search(r"[{}]|  |\.\.|,,| \.|None", text), text
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [^aeiou\W]", text), text
        assert all(sentence[0].isupper() or sentence[0].isdigit() for sentence in text.split(". ")), text
        assert text.endswith("."), doc_id


def test_instructions_are_clean_prose() -> None:
    asked = [row.instruction for row in rows()] + [row.paraphrase for row in rows()]
    asked += [query.instruction for name in EVALUATION_NAMES for query in evaluation_set(name).queries]
    for text in filter(None, asked):
        assert not re.search(r"[{}]|  |\.\.|\b[Aa] [aeio]|\b[Aa]n [^aeiou\W]", text), text


def test_both_renderings_of_a_content_say_the_same_and_differ_in_habit() -> None:
    for doc_id in islice((key for key in texts() if key.endswith(".a")), 300):
        twin = doc_id[:-1] + "b"
        assert levels_said(doc_id) == levels_said(twin)
        assert texts()[doc_id] != texts()[twin]
        closing = [
            next(i for i, ends in enumerate(shared().closers) if texts()[key].lower()[:-1].endswith(ends))
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
    low, high = {"dev": (55, 70), "test": (120, 160), "heldout": (120, 160)}[name]
    assert low <= len(bed.opposites) <= high
    assert len(bed.queries) == 4 * len(bed.opposites)
    assert len({query.query_id for query in bed.queries}) == len(bed.queries)
    shares = []
    for changed, reverse in bed.opposites:
        one, other = bed.qrels[changed], bed.qrels[reverse]
        assert not set(one) & set(other)
        assert min(len(one), len(other)) >= 3
        plain = bed.qrels[changed.replace("-changed", "-plain")]
        if "-combined-" not in changed:
            assert set(one) | set(other) == set(plain)
            shares.append(len(one) / len(plain))
    assert sum(0.29 <= share <= 0.71 for share in shares) >= 0.95 * len(shares)
    forms = Counter(changed.split("-")[-2] for changed, _ in bed.opposites)
    assert set(forms) == set(FORMS)
    for form, count in forms.items():
        assert abs(count / len(bed.opposites) - FORM_TURNS.count(form) / len(FORM_TURNS)) < 0.05
    kinds = Counter(changed.split("-")[-3] for changed, _ in bed.opposites)
    assert len(kinds) >= 7 and max(kinds.values()) <= 0.25 * len(bed.opposites)
    ornate = sum(document.text.lower()[:-1].endswith(shared().closers[1]) for document in bed.documents)
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
    assert all(len(words) == 1 for words in starts.values()) and len(starts) == 10


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
    assert checked > 600


def test_rows_are_complete_and_consistent() -> None:
    ids = [row.row_id for row in rows()]
    queries = Counter(row.query_id for row in rows())
    assert len(ids) == len(set(ids)) >= 2500
    assert set(queries.values()) <= {1, 2, 3} and len(queries) >= 1100
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
        assert set(row.still_negative) <= set(row.instruction_negatives[1:])
        assert len({row.instruction, row.reversed_instruction, row.paraphrase}) == 3
        combined += bool(row.still_negative)
    assert 0.1 < combined / len(rows()) < 0.2


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
    plan = make_plan(7, 3000)
    topics = {name: {(t.domain.name, t.name) for t in getattr(plan, name)} for name in ("train", *EVALUATION_NAMES)}
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


def test_another_seed_gives_another_world() -> None:
    assert {t.name for t in make_plan(1, 3000).test} != {t.name for t in make_plan(2, 3000).test}


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
        ({"documents": 599}, "source.documents=599: must lie between 600 and 10000000; set it to 3000 for the default"),
        ({"documents": 10_000_001}, "source.documents=10000001: must lie between 600 and 10000000"),
        ({"skew": 0.4}, "source.skew=0.4: must lie between 0.5 (no skew) and 1 (always the usual side)"),
        ({"skew": float("nan")}, "source.skew=nan: must lie between 0.5"),
        ({"shortcut": 1.1}, "source.shortcut=1.1: must lie between 0 (style by coin) and 1 (style tells all)"),
    ],
)
def test_nonsense_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        World(**{"seed": 1, "documents": 3000, "skew": 0.9, "shortcut": 0.9, **change})


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
        "Skip any place that is kept strictly animal-free because of allergies."
    )
    assert write_instruction("place", (cheap, with_pets._replace(usual=False)), "train", negated) == (
        "Skip any place that is a luxury, over 100 euros or welcomes dogs and cats."
    )
    assert broad_instruction("place", "price", 3) == "Any place will do, whatever the price."


def test_another_wording_is_another_wording() -> None:
    for form in FORMS:
        for template in range(4):
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
