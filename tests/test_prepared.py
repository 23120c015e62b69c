"""What a run makes once: tokenizer and weights, tokens of each text, and what it built it does not read again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import override, run_config

from ablate.engine import stages
from ablate.engine.prepare import Run, prepare
from ablate.engine.recorder import Recorder
from ablate.evaluation import storage
from ablate.model import encoder as encoder_module
from ablate.model import untouched as untouched_module
from ablate.model.distributed import ALONE
from ablate.model.text import TextTemplate
from ablate.recipe.values import digest
from ablate.records import UserError
from ablate.run import execute

SMALL = (
    "source.documents=600",
    "evaluation.sets=[test]",
    "budget.limit=16",
    "train.batch_size=8",
    "train.epochs=1",
    "tracker=none",
    "runtime.dev_set=null",
    "runtime.threads=1",
    "runtime.device=cpu",
)
LORA = "+model.lora={rank: 2, alpha: 4, dropout: 0, targets: [%s]}"


def opened(results: Path, *overrides: str, arm: str = "dual_view") -> Run:
    """Return a small run made ready, of a tiny model unless another one is named."""
    model = () if any(item.startswith("model=") for item in overrides) else ("model=tiny",)
    config = run_config(f"+experiment={arm}", *SMALL, *model, *overrides, override("runtime.results", results))
    return prepare(config)


def train(run: Run) -> None:
    """Make the stages of a run up to its training."""
    stages.check_model(run)
    prepared = run.prepared(stages.make_mix(run)[0])
    workload = stages.make_workload(run, prepared)
    with Recorder(run).open() as recorder:
        stages.make_model(run, prepared, workload, recorder, ALONE)


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: Counter[str]) -> None:
    """Count the calls of a function by its name."""
    function = getattr(owner, name)

    def counting(*given: Any, **named: Any) -> Any:
        calls[name] += 1
        return function(*given, **named)

    monkeypatch.setattr(owner, name, counting)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each text was tokenised."""
    seen: Counter[str] = Counter()
    tokenise = TextTemplate._tokenise

    def counting(template: TextTemplate, posed: list[str], length: int) -> Any:
        seen.update(posed)
        return tokenise(template, posed, length)

    monkeypatch.setattr(TextTemplate, "_tokenise", counting)
    return seen


def test_weights_are_loaded_once_and_not_to_count_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModel, AutoTokenizer

    weights, tokenizers = Counter[str](), Counter[str]()
    counted(monkeypatch, AutoModel, "from_pretrained", weights)
    counted(monkeypatch, AutoTokenizer, "from_pretrained", tokenizers)
    run = opened(tmp_path, "model=minilm", "model.query_length=8", "model.passage_length=8")
    stages.check_model(run)
    prepared = run.prepared(stages.make_mix(run)[0])
    workload = stages.make_workload(run, prepared)
    assert not weights and tokenizers.total() == 1
    with Recorder(run).open() as recorder:
        stages.make_model(run, prepared, workload, recorder, ALONE)
    assert weights.total() == 1 and tokenizers.total() == 1
    run.untouched.encoder()
    assert weights.total() == 2, "an encoder of its own, which was not trained"
    assert tokenizers.total() == 1


def test_a_tiny_tokenizer_is_trained_once_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, drawn = Counter[str](), Counter[str]()
    for module in (untouched_module, encoder_module):
        counted(monkeypatch, module, "tiny_tokenizer", trained)
        counted(monkeypatch, module, "draw_tiny", drawn)
    run = opened(tmp_path)
    execute(run.config)
    assert trained.total() == 1
    assert drawn.total() == 2, "one to train, one to be measured untouched"


def test_a_tiny_template_is_that_of_the_encoder_whichever_is_asked_for_first(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    template, encoder = first.untouched.template, first.untouched.encoder()
    assert encoder.tokenizer is template.tokenizer
    other = second.untouched.encoder()
    assert second.untouched.template is other.template
    assert other.tokenizer.get_vocab() == encoder.tokenizer.get_vocab()
    assert all((a == b).all() for a, b in zip(encoder.parameters(), other.parameters(), strict=True))


def test_adapters_without_a_place_in_a_tiny_model_are_told_before_the_mix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.lora\.targets=\['nowhere'\] names no module"):
        stages.check_model(opened(tmp_path, LORA % "query,nowhere"))
    stages.check_model(opened(tmp_path, LORA % "query,value"))


@pytest.mark.parametrize("arm", ["dual_view", "query_only"])
def test_each_text_is_tokenised_once_to_be_counted_and_trained_on(
    tmp_path: Path, texts: Counter[str], arm: str
) -> None:
    train(opened(tmp_path, arm=arm))
    assert set(texts.values()) == {1}


def test_a_budget_in_tokens_counts_each_text_once(tmp_path: Path, texts: Counter[str]) -> None:
    run = opened(tmp_path, "budget.unit=tokens", "budget.limit=20000", arm="instructions")
    stages.make_mix(run)
    assert len(texts) > 100 and set(texts.values()) == {1}


def test_a_finished_run_tokenises_nothing(tmp_path: Path, texts: Counter[str]) -> None:
    train(opened(tmp_path))
    texts.clear()
    train(opened(tmp_path))
    assert not texts


def test_a_resumed_training_tokenises_its_texts_once(tmp_path: Path, texts: Counter[str]) -> None:
    run = opened(tmp_path)
    stages.make_workload(run, run.prepared(stages.make_mix(run)[0]))
    texts.clear()
    train(opened(tmp_path))
    assert texts and set(texts.values()) == {1}


def test_what_was_just_built_is_not_read_again_and_what_was_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Counter[str]()
    counted(monkeypatch, stages, "read_mix", read)
    counted(monkeypatch, storage, "read_evaluation", read)
    run = opened(tmp_path)
    execute(run.config)
    assert not read
    first = capsys.readouterr().out
    execute(run.config)
    assert read == {"read_mix": 1, "read_evaluation": 2}
    assert capsys.readouterr().out == first


def test_what_is_built_equals_what_is_read(tmp_path: Path) -> None:
    built, read = opened(tmp_path), opened(tmp_path)
    assert stages.make_mix(built) == stages.make_mix(read)
    assert stages.make_scores(built, "untouched") == stages.make_scores(read, "untouched")


def test_what_is_damaged_after_it_was_built_is_refused(tmp_path: Path) -> None:
    run = opened(tmp_path)
    _, mix = stages.make_mix(run)
    _, scores = stages.make_scores(run, "untouched")
    for manifest, name in ((mix, "groups.jsonl.gz"), (scores, "scores.parquet")):
        path = run.store.folder(manifest.kind, manifest.id) / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"groups\.jsonl\.gz was changed"):
        stages.make_mix(run)
    with pytest.raises(UserError, match=r"scores\.parquet was changed"):
        stages.make_scores(run, "untouched")


@pytest.mark.parametrize(("is_held", "order"), [(False, ["untouched", "trained"]), (True, ["trained", "untouched"])])
def test_what_another_process_measures_is_waited_for_last(
    is_held: bool, order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(tmp_path)
    lock = run.store.lock(f"evaluation-{digest(run.identity.untouched)}")
    measured: list[str] = []
    make_scores = stages.make_scores

    def recorded(run: Run, ranker: Any, recorder: Recorder | None = None) -> Any:
        measured.append(ranker)
        if ranker == "untouched":
            lock.release()
        return make_scores(run, ranker, recorder)

    monkeypatch.setattr(stages, "make_scores", recorded)
    assert lock.take() if is_held else not lock.is_held()
    execute(run.config)
    assert measured == order
