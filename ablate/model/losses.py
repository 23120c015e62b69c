"""The contrastive loss over one batch. Shapes: Q queries, P unique passages."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

EXCLUDED = -1e30
"""Score of a passage that takes no part: exp of it is zero, and unlike -inf it has no undefined gradient."""


def info_nce(
    scores_QP: torch.Tensor, positive_QP: torch.Tensor, candidate_QP: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the mean over queries of the masked InfoNCE loss, computed in fp32.

    For a query with positives p and negatives n (candidates that are not positive), each positive stands against the
    negatives alone, without the other positives:

        loss = mean over p of  -log( exp(s_p / t) / (exp(s_p / t) + sum over n of exp(s_n / t)) )

    With one positive and every passage a candidate this is InfoNCE (van den Oord et al. 2018, arXiv 1807.03748,
    equation 4). `positive_QP` and `candidate_QP` are boolean, each row has a positive, positives are candidates.
    """
    scores = scores_QP.float() / temperature
    negatives = scores.masked_fill(~candidate_QP | positive_QP, EXCLUDED)
    against_Q1 = torch.logsumexp(negatives, dim=1, keepdim=True)
    log_probability_QP = logsigmoid(scores - against_Q1)  # log(e^s / (e^s + e^a)) = log sigmoid(s - a)
    of_positives_Q = log_probability_QP.masked_fill(~positive_QP, 0.0).sum(dim=1) / positive_QP.sum(dim=1)
    return -of_positives_Q.mean()
