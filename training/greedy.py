"""Greedy ensemble selection with replacement (Caruana et al. 2004), and what it is worth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Votes = NDArray[np.float64]
Labels = NDArray[np.int64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """Accuracies on images that had no part in the choice, over all folds.

    ``selected`` of the fitted weights, ``uniform`` of equal ones, ``single`` of the member that
    was the best on the other folds.
    """

    selected: float
    uniform: float
    single: float


def accuracy(votes: Votes, counts: Counts, labels: Labels) -> float:
    """The share of images whose label has the largest sum of weighted votes.

    ``votes`` is (members, images, classes), ``counts`` (members,).
    """
    return float((_summed(votes, counts).argmax(1) == labels).mean())


def select(votes: Votes, labels: Labels, rounds: int, *, logits: bool) -> Counts:
    """How often each member is chosen, (members,): each time the one that helps most.

    Begins with the best member, and stops at the best of all ``rounds`` sums. What counts is
    accuracy, and among equals the mean log-likelihood of the true class, of the softmax of the
    mean logits or of the mean probabilities: with accuracy alone, ties would decide.
    """
    counts = np.zeros(len(votes), np.int64)
    total = np.zeros(votes.shape[1:])
    best, best_score = counts.copy(), (-1.0, -np.inf)
    for chosen in range(1, rounds + 1):
        scores = [_score((total + vote) / chosen, labels, logits=logits) for vote in votes]
        member = max(range(len(votes)), key=scores.__getitem__)
        counts[member] += 1
        total += votes[member]
        if scores[member] > best_score:
            best, best_score = counts.copy(), scores[member]
    return best


def cross_validate(
    votes: Votes, labels: Labels, folds: int, seed: int, choose: Callable[[Votes, Labels], Counts]
) -> CrossValidated:
    """Choose on all folds but one, and count what is right on that one; over all of them."""
    fold_of = np.random.default_rng(seed).permutation(len(labels)) % folds
    hits = np.zeros(3)
    for fold in range(folds):
        inside, outside = fold_of != fold, fold_of == fold
        kept, held_out = votes[:, inside], votes[:, outside]
        weights = (
            choose(kept, labels[inside]),
            np.ones(len(votes), np.int64),
            _one(len(votes), _best_member(kept, labels[inside])),
        )
        size = outside.sum()
        hits += [accuracy(held_out, counts, labels[outside]) * size for counts in weights]
    selected, uniform, single = (hits / len(labels)).tolist()
    return CrossValidated(selected, uniform, single)


def _best_member(votes: Votes, labels: Labels) -> int:
    return int((votes.argmax(2) == labels).mean(1).argmax())


def _one(members: int, index: int) -> Counts:
    counts = np.zeros(members, np.int64)
    counts[index] = 1
    return counts


def _summed(votes: Votes, counts: Counts) -> Votes:
    total: Votes = np.tensordot(counts.astype(np.float64), votes, 1)
    return total


def _score(mean: Votes, labels: Labels, *, logits: bool) -> tuple[float, float]:
    """Accuracy and mean log-likelihood of votes (images, classes)."""
    right = np.take_along_axis(mean, labels[:, None], 1)[:, 0]
    if logits:
        top = mean.max(1)
        likelihood = right - top - np.log(np.exp(mean - top[:, None]).sum(1))
    else:
        likelihood = np.log(np.maximum(right, 1e-12))
    return float((mean.argmax(1) == labels).mean()), float(likelihood.mean())
