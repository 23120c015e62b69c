"""The contrastive loss over one batch. Shapes: Q queries, P unique passages, H hidden size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import logsigmoid

EXCLUDED = -1e30
"""Score of a passage that takes no part: exp of it is zero, and unlike -inf it has no undefined gradient."""
TILED_FROM = 2**24
"""Pairs of query and passage from which on scores are made tile by tile: below, the full matrix is as quick and small
beside the encoder, and the bits are those of `info_nce`."""
TILE = 2**22
"""Pairs of a tile: 16 MiB of scores."""


def batch_loss(
    queries_QH: torch.Tensor,
    passages_PH: torch.Tensor,
    positive_QP: torch.Tensor,
    candidate_QP: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Return `info_nce` of the inner products of vectors, computed in fp32; of many pairs tile by tile.

    From TILED_FROM pairs on it is `TiledInfoNce`, equal up to rounding.
    """
    queries_QH, passages_PH = queries_QH.float(), passages_PH.float()
    if positive_QP.numel() < TILED_FROM:
        return info_nce(queries_QH @ passages_PH.T, positive_QP, candidate_QP, temperature)
    tiled: Callable[..., torch.Tensor] = TiledInfoNce.apply
    return tiled(queries_QH, passages_PH, positive_QP, candidate_QP, temperature)


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


class TiledInfoNce(torch.autograd.Function):
    """`info_nce` of the inner products of vectors, which holds the scores of one tile of rows at a time.

    The backward pass makes the scores again from the vectors and each row's log of the sum over negatives (Cheng et al.
    2024, arXiv 2410.17243, section 3.2; here a tile has whole rows). With a = that log, w_p = sigmoid(a - s_p)
    and m positives in a row, the gradient of the row's loss is -w_p / m by s_p, and by a negative's score s_n it is
    exp(s_n - a) * (sum over p of w_p) / m. Beside the vectors only the two boolean matrices grow with Q * P.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries_QH: torch.Tensor,
        passages_PH: torch.Tensor,
        positive_QP: torch.Tensor,
        candidate_QP: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        """Return the loss; vectors share a floating type, and the relations are as `info_nce` has them."""
        against_Q = queries_QH.new_empty(len(queries_QH))
        of_positives_Q = queries_QH.new_zeros(len(queries_QH))
        for rows in _tiles(positive_QP):
            scores, positive = (queries_QH[rows] @ passages_PH.T).div_(temperature), positive_QP[rows]
            row, column = positive.nonzero(as_tuple=True)
            of_positives = scores[row, column]
            against = scores.masked_fill_(~candidate_QP[rows] | positive, EXCLUDED).logsumexp(dim=1)
            log_probability = logsigmoid(of_positives - against[row]) / positive.sum(dim=1)[row]
            of_positives_Q[rows].index_add_(0, row, log_probability)
            against_Q[rows] = against
        ctx.save_for_backward(queries_QH, passages_PH, positive_QP, candidate_QP, against_Q)
        ctx.temperature = temperature
        return -of_positives_Q.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        """Return the gradients by queries and passages."""
        queries_QH, passages_PH, positive_QP, candidate_QP, against_Q = ctx.saved_tensors
        queries_gradient, passages_gradient = torch.empty_like(queries_QH), torch.zeros_like(passages_PH)
        scale = gradients[0] / (ctx.temperature * len(queries_QH))
        for rows in _tiles(positive_QP):
            scores, positive = (queries_QH[rows] @ passages_PH.T).div_(ctx.temperature), positive_QP[rows]
            against = against_Q[rows]
            row, column = positive.nonzero(as_tuple=True)
            weights = torch.sigmoid(against[row] - scores[row, column]) / positive.sum(dim=1)[row]
            of_row = torch.zeros_like(against).index_add_(0, row, weights)
            by_score = scores.sub_(against[:, None]).masked_fill_(~candidate_QP[rows] | positive, EXCLUDED).exp_()
            by_score.mul_(of_row[:, None])
            by_score[row, column] = -weights
            by_score.mul_(scale)
            queries_gradient[rows] = by_score @ passages_PH
            passages_gradient.addmm_(by_score.T, queries_QH[rows])
        return queries_gradient, passages_gradient, None, None, None


def _tiles(positive_QP: torch.Tensor) -> Iterator[slice]:
    """Yield the rows of each tile."""
    num_rows, num_columns = positive_QP.shape
    height = max(1, TILE // num_columns)
    for start in range(0, num_rows, height):
        yield slice(start, start + height)
