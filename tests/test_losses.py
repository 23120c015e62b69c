"""The loss against values computed by hand, and its gradient against the formula."""

import math

import pytest
import torch

from ablate.model import losses
from ablate.model.losses import TiledInfoNce, batch_loss, info_nce

SCORES = torch.tensor([[2.0, 1.0, 0.0], [0.5, 1.5, 1.0]])
ALL = torch.ones(2, 3, dtype=torch.bool)
DIAGONAL = torch.tensor([[True, False, False], [False, True, False]])


def test_one_positive_and_all_candidates_by_hand():
    first = -math.log(math.e**2 / (math.e**2 + math.e**1 + math.e**0))
    second = -math.log(math.e**1.5 / (math.e**0.5 + math.e**1.5 + math.e**1.0))
    assert info_nce(SCORES, DIAGONAL, ALL, 1.0).item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_temperature_divides_the_scores():
    first = -math.log(math.e**4 / (math.e**4 + math.e**2 + 1))
    second = -math.log(math.e**3 / (math.e**1 + math.e**3 + math.e**2))
    assert info_nce(SCORES, DIAGONAL, ALL, 0.5).item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_a_passage_that_is_no_candidate_takes_no_part():
    candidates = torch.tensor([[True, False, True], [False, True, True]])
    first = -math.log(math.e**2 / (math.e**2 + 1))
    second = -math.log(math.e**1.5 / (math.e**1.5 + math.e))
    assert info_nce(SCORES, DIAGONAL, candidates, 1.0).item() == pytest.approx((first + second) / 2, abs=1e-6)
    changed = SCORES.clone()
    changed[~candidates] = 50.0
    assert info_nce(changed, DIAGONAL, candidates, 1.0) == info_nce(SCORES, DIAGONAL, candidates, 1.0)


def test_each_of_several_positives_stands_against_the_negatives_alone():
    positives = torch.tensor([[True, True, False], [False, True, False]])
    one = -math.log(math.e**2 / (math.e**2 + 1))
    two = -math.log(math.e**1 / (math.e**1 + 1))
    second = -math.log(math.e**1.5 / (math.e**0.5 + math.e**1.5 + math.e**1.0))
    expected = ((one + two) / 2 + second) / 2
    assert info_nce(SCORES, positives, ALL, 1.0).item() == pytest.approx(expected, abs=1e-6)


def test_a_row_without_negatives_costs_nothing_and_has_no_gradient():
    scores = SCORES.clone().requires_grad_()
    candidates = torch.tensor([[True, False, False], [True, True, True]])
    loss = info_nce(scores, DIAGONAL, candidates, 1.0)
    loss.backward()
    second = -math.log(math.e**1.5 / (math.e**0.5 + math.e**1.5 + math.e**1.0))
    assert loss.item() == pytest.approx(second / 2, abs=1e-6)
    assert scores.grad is not None and scores.grad[0].tolist() == [0.0, 0.0, 0.0]


def test_gradient_is_softmax_minus_target():
    scores = SCORES.clone().requires_grad_()
    info_nce(scores, DIAGONAL, ALL, 0.5).backward()
    expected = (torch.softmax(SCORES / 0.5, dim=1) - DIAGONAL.float()) / 0.5 / 2
    torch.testing.assert_close(scores.grad, expected)


def test_gradient_numerically_with_masks_and_several_positives():
    scores = torch.randn(3, 5, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    positives = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)
    candidates = torch.tensor([[1, 1, 1, 0, 1], [0, 1, 1, 1, 1], [1, 0, 1, 1, 0]], dtype=torch.bool)
    exact = scores.clone().requires_grad_()
    info_nce(exact, positives, candidates, 0.7).backward()
    assert exact.grad is not None
    for row in range(3):
        for column in range(5):
            step = torch.zeros_like(scores)
            step[row, column] = 1e-2
            up = info_nce(scores + step, positives, candidates, 0.7)
            down = info_nce(scores - step, positives, candidates, 0.7)
            assert exact.grad[row, column].item() == pytest.approx((up - down).item() / 2e-2, abs=2e-4)


def test_doubled_passages_would_shift_the_loss_by_ln_2_so_each_is_there_once():
    """If two views of each row put every passage in twice, the copies of the positive would be negatives."""
    doubled = info_nce(
        torch.cat([SCORES, SCORES], dim=1),
        torch.cat([DIAGONAL, torch.zeros_like(DIAGONAL)], dim=1),
        torch.cat([ALL, ALL], dim=1),
        1.0,
    )
    assert (doubled - info_nce(SCORES, DIAGONAL, ALL, 1.0)).item() == pytest.approx(math.log(2), abs=1e-6)


def test_low_precision_scores_are_reduced_in_fp32():
    loss = info_nce(SCORES.bfloat16(), DIAGONAL, ALL, 0.01)
    assert loss.dtype == torch.float32 and math.isfinite(loss.item())


def test_large_scores_stay_finite():
    scores = torch.tensor([[1e4, -1e4], [1e4, -1e4]], requires_grad=True)
    loss = info_nce(scores, torch.tensor([[True, False], [False, True]]), torch.ones(2, 2, dtype=torch.bool), 0.01)
    loss.backward()
    assert loss.item() == pytest.approx(1e6) and scores.grad is not None and torch.isfinite(scores.grad).all()


# Tiles


def drawn(num_queries, num_passages, dtype=torch.float32):
    """Return vectors and relations: several positives in some rows, a row without negatives, passages that are out."""
    generator = torch.Generator().manual_seed(num_queries)
    queries, passages = (
        torch.nn.functional.normalize(torch.randn(number, 8, generator=generator, dtype=dtype), dim=1).requires_grad_()
        for number in (num_queries, num_passages)
    )
    positive = torch.rand(num_queries, num_passages, generator=generator) < 0.05
    positive[torch.arange(num_queries), torch.arange(num_queries)] = True
    candidate = (torch.rand(num_queries, num_passages, generator=generator) < 0.7) | positive
    candidate[0] = positive[0]
    return queries, passages, positive, candidate


def with_gradients(loss, queries, passages):
    return loss.detach(), *torch.autograd.grad(loss, (queries, passages))


@pytest.mark.parametrize("tile", [1, 50, 137, 10**6])
@pytest.mark.parametrize("shape", [(1, 1), (7, 20), (33, 41)])
def test_tiles_give_the_loss_and_the_gradients_of_the_full_matrix(monkeypatch, tile, shape):
    queries, passages, positive, candidate = drawn(*shape)
    whole = with_gradients(batch_loss(queries, passages, positive, candidate, 0.05), queries, passages)
    monkeypatch.setattr(losses, "TILED_FROM", 0)
    monkeypatch.setattr(losses, "TILE", tile)
    tiled = with_gradients(3 * batch_loss(queries, passages, positive, candidate, 0.05), queries, passages)
    for expected, value in zip(whole, tiled, strict=True):
        torch.testing.assert_close(value / 3, expected, rtol=1e-6, atol=1e-6)


def test_the_gradient_of_tiles_numerically(monkeypatch):
    monkeypatch.setattr(losses, "TILE", 20)
    queries, passages, positive, candidate = drawn(5, 9, torch.float64)
    assert torch.autograd.gradcheck(TiledInfoNce.apply, (queries, passages, positive, candidate, 0.3))


def test_scores_of_tiles_stay_finite_where_vectors_are_long(monkeypatch):
    monkeypatch.setattr(losses, "TILED_FROM", 0)
    queries = torch.tensor([[1e4], [1e4]], requires_grad=True)
    loss = batch_loss(queries, torch.tensor([[1.0], [-1.0]]), torch.eye(2, dtype=torch.bool), ALL[:, :2], 0.01)
    loss.backward()
    assert loss.item() == pytest.approx(1e6) and torch.isfinite(queries.grad).all()


def test_below_the_threshold_the_bits_are_those_of_the_full_matrix():
    queries, passages, positive, candidate = drawn(33, 41)
    loss = batch_loss(queries, passages, positive, candidate, 0.05)
    assert torch.equal(loss, info_nce(queries @ passages.T, positive, candidate, 0.05))
