"""Whether both sides compute the same: tokens, vectors, loss and gradients of one batch in fp32 without dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablate.data.batches import collate
from ablate.model.distributed import ALONE
from ablate.model.module import RetrieverModule
from benchmarks.peer import theirs
from benchmarks.peer.material import Material, unmasked

TOLERANCE = 1e-4


def compare(material: Material, folder: Path) -> dict[str, Any]:
    """Return the differences on a batch in which we mask nothing, for each loss of the other side.

    `loss` is an absolute difference; `gradients` the largest absolute difference over all weights; `relative` the norm
    of the difference of all gradients, by the norm of ours.
    """
    places = unmasked(material.groups, material.train.batch_size)
    encoder = material.encoder(folder).train()
    prepared = material.prepared(encoder, "fp32")
    groups = [prepared.steps.groups[place] for place in places]
    steps = prepared.steps
    batch = collate(groups, steps.queries, steps.passages, steps.relations_of(groups))
    assert bool(batch.candidate_QP.all()), "every passage is a candidate of every query"
    assert len(batch.doc_ids) == sum(1 + len(group.negatives) for group in groups), "and stands there once"
    module = RetrieverModule(
        encoder, material.train, seed=0, num_steps=1, precision="fp32", after_step=lambda *_: None, world=ALONE
    )
    loss = module.loss(batch, encoder)
    loss.backward()
    own = {name: weight.grad for name, weight in encoder.network.named_parameters() if weight.grad is not None}
    found: dict[str, Any] = {
        "groups": len(groups),
        "loss": float(loss.detach()),
        "gradient_norm": _norm(list(own.values())),
        "tolerance": TOLERANCE,
        "with": {},
    }
    for kind in ("plain", "cached", "tokens"):
        setting = theirs.Setting(dropout=0.0, loss=kind)
        model = theirs.open_model(material, folder, setting).train()
        columns = theirs.features(model, material, places)
        found["tokens"] = [batch.num_tokens, sum(int(column["attention_mask"].sum()) for column in columns)]
        other_loss = theirs.open_loss(model, setting, material.train.temperature)(columns, None)
        other_loss.backward()
        other = dict(theirs.network_of(model).named_parameters())
        pairs = [(grad, _or_zero(other[name])) for name, grad in own.items()]
        found["with"][kind] = {
            "loss": abs(float(other_loss.detach()) - float(loss.detach())),
            "gradients": max(float((mine - yours).abs().max()) for mine, yours in pairs),
            "relative": _norm([mine - yours for mine, yours in pairs]) / found["gradient_norm"],
        }
        untouched = [name for name, weight in other.items() if weight.grad is not None and name not in own]
        assert not untouched, f"only the other side has gradients of {untouched}"
    encoder.eval()
    documents = list(material.passages.values())[: 4 * len(groups)]
    peer = theirs.PeerEncoder(model, encoder.template)
    difference = encoder.encode_passages(documents) - peer.encode_passages(documents)
    found["vectors"] = float(np.abs(difference).max())
    found["equal"] = (
        found["tokens"][0] == found["tokens"][1]
        and found["vectors"] <= TOLERANCE
        and all(max(told.values()) <= TOLERANCE for told in found["with"].values())
    )
    return found


def _norm(tensors: list[torch.Tensor]) -> float:
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors])))


def _or_zero(weight: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
