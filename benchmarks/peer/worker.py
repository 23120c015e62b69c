"""A process of the benchmark: `python -m benchmarks.peer.worker FOLDER TASK [SETTING]`, started by `benchmarks.beside`.

FOLDER holds the material. Rounds are asked for on standard input (see `Gate`); SETTING is JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ablate.model.device import resolve_device
from benchmarks.peer.gate import Gate
from benchmarks.peer.material import Material, read


def train_ours(material: Material, folder: Path, setting: dict[str, Any], gate: Gate) -> None:
    """Train with our loop, a round at a time.

    Our texts become tokens once, before the first step, and the other side's in every step: what that took is told
    with each round, so that it can be shared out over the groups.
    """
    from ablate.model.module import fit

    encoder = material.encoder(folder).to(resolve_device("auto"))
    runtime = dataclasses.replace(material.runtime, checkpoint_every=1_000_000, progress=False)
    prepared = material.prepared(encoder, setting["precision"])
    wall, cpu = time.perf_counter(), time.process_time()
    _ = prepared.steps
    once = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    with tempfile.TemporaryDirectory() as work:
        gate.open()
        fit(
            encoder,
            prepared,
            runtime=runtime,
            checkpoint_dir=Path(work),
            on_step=lambda step, values: gate.step(once=once),
        )


def train_theirs(material: Material, folder: Path, setting: dict[str, Any], gate: Gate) -> None:
    """Train with the trainer of sentence-transformers, a round at a time."""
    from benchmarks.peer import theirs

    chosen, device = theirs.Setting(**setting), resolve_device("auto")
    model = theirs.open_model(material, folder, chosen, device)
    with tempfile.TemporaryDirectory() as work:
        gate.open()
        theirs.train(model, material, chosen, Path(work), gate.step, device)


def multiply(material: Material, folder: Path, setting: dict[str, Any], gate: Gate) -> None:
    """Multiply matrices of the model's shapes: what the processor does at most in a precision."""
    config, device = material.encoder(folder).network.config, resolve_device("auto")
    dtype = torch.bfloat16 if setting["precision"] == "bf16" else torch.float32
    num_tokens = 2048 if device == "cpu" else 65_536
    hidden = torch.randn(num_tokens, config.hidden_size, device=device).to(dtype)
    weight = torch.randn(config.hidden_size, config.intermediate_size, device=device).to(dtype)
    flops = 2.0 * hidden.numel() * weight.shape[1]
    repeats = max(1, round(setting["flops"] / flops))

    def work() -> dict[str, Any]:
        for _ in range(repeats):
            hidden @ weight
        return {"flops": repeats * flops}

    gate.rounds(work)


def encode_ours(material: Material, folder: Path, setting: dict[str, Any], gate: Gate) -> None:
    """Encode the documents of the first test bed with our encoder."""
    encoder = material.encoder(folder).to(resolve_device("auto"))
    documents = material.sets[0].documents[: setting["documents"]]
    gate.rounds(lambda: {"documents": len(encoder.encode_passages(documents))})


def encode_theirs(material: Material, folder: Path, setting: dict[str, Any], gate: Gate) -> None:
    """Encode the same documents with `SentenceTransformer.encode`, in bf16 by converting the model."""
    from benchmarks.peer import theirs

    chosen = theirs.Setting(setting["precision"], setting["attention"])
    model = theirs.open_model(material, folder, chosen, resolve_device("auto"))
    if chosen.precision == "bf16":
        model = model.bfloat16()
    peer = theirs.PeerEncoder(model, material.encoder(folder).template, setting["batch"])
    documents = material.sets[0].documents[: setting["documents"]]
    gate.rounds(lambda: {"documents": len(peer.encode_passages(documents))})


def choose(material: Material, folder: Path, setting: dict[str, Any], gate: Gate) -> None:
    """Try settings of the other side on first batches, without its trainer, and tell the milliseconds of each."""
    from benchmarks.peer import theirs

    device = resolve_device("auto")
    tried: list[tuple[theirs.Setting, Callable[[int], None]]] = []
    for precision in setting["precisions"]:
        for chosen in theirs.candidates(precision, device):
            tried.append((chosen, _one_step(material, folder, chosen, device)))
    gate.open()
    times: dict[str, list[float]] = {json.dumps(dataclasses.asdict(chosen)): [] for chosen, _ in tried}
    for number in range(1 + setting["repeats"]):
        for chosen, step in tried:
            wall, cpu = time.perf_counter(), time.process_time()
            step(number % len(material.batches))
            took = time.process_time() - cpu if device == "cpu" else time.perf_counter() - wall
            if number:  # the first time is warming up
                times[json.dumps(dataclasses.asdict(chosen))].append(1000 * took / material.train.batch_size)
    gate.close(milliseconds={name: min(taken) for name, taken in times.items()})


def _one_step(material: Material, folder: Path, chosen: Any, device: str) -> Callable[[int], None]:
    from benchmarks.peer import theirs

    model = theirs.open_model(material, folder, chosen, device).train()
    loss = theirs.open_loss(model, chosen, material.train.temperature)

    def step(number: int) -> None:
        columns = theirs.features(model, material, material.batches[number])
        columns = [
            {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in column.items()} for column in columns
        ]
        with torch.autocast(device, torch.bfloat16, enabled=chosen.precision == "bf16"):
            value = loss(columns, None)
        value.backward()
        model.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def cell_theirs(material: Material, folder: Path, setting: dict[str, Any], gate: Gate) -> None:
    """Do a whole cell as a process of its own: open, train, save, and measure with our evaluation."""
    from ablate.evaluation.rankers import Dense
    from ablate.evaluation.scoring import rank_and_score
    from ablate.model.text import TextTemplate
    from benchmarks.peer import theirs

    given = dict(setting)
    material = dataclasses.replace(material, seed=given.pop("seed"))
    chosen, device = theirs.Setting(**given), resolve_device("auto")
    model = theirs.open_model(material, folder, chosen, device)
    with tempfile.TemporaryDirectory() as work:
        theirs.train(model, material, chosen, Path(work), device=device)
        model.save_pretrained(str(Path(work) / "model"))
    model.eval()
    encoder = theirs.PeerEncoder(model, TextTemplate(material.model, model.tokenizer))
    result = rank_and_score(Dense(encoder), material.sets, depth=material.depth)
    gate.say(scores=_means(result.scores))


def _means(scores: Sequence[Any]) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for score in scores:
        sums.setdefault(" / ".join((score.dataset, score.measure, score.condition, score.direction)), []).append(
            score.value
        )
    return {name: sum(values) / len(values) for name, values in sums.items()}


def compare(material: Material, folder: Path, setting: dict[str, Any], gate: Gate) -> None:
    """Tell whether both sides compute the same."""
    from benchmarks.peer.equal import compare as compared

    gate.say(**compared(material, folder))


TASKS: dict[str, Callable[[Material, Path, dict[str, Any], Gate], None]] = {
    task.__name__: task
    for task in (train_ours, train_theirs, multiply, encode_ours, encode_theirs, choose, cell_theirs, compare)
}


def main(words: Sequence[str]) -> None:
    """Do one task."""
    folder, task, *rest = words
    setting: dict[str, Any] = json.loads(rest[0]) if rest else {}
    torch.set_num_threads(int(setting.pop("threads", 1)))
    material = read(Path(folder))
    gate = Gate(setting.pop("steps", 1))
    TASKS[task](material, Path(folder), setting, gate)


if __name__ == "__main__":
    main(sys.argv[1:])
