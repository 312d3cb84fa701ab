"""Min-sum belief propagation on a grid of nodes, each with a few labels."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

_ROUNDS, _DAMPING = 16, 0.3
_PRUNE_AFTER, _PRUNED = 4, 16

_Edges = TypeVar("_Edges")
_Found = TypeVar("_Found")


def minimise(
    costs: np.ndarray, edges: list[tuple[np.ndarray, np.ndarray]], pairs: list[np.ndarray]
) -> np.ndarray:
    """Min-sum belief propagation, all messages at once, damped by 0.3, 16 rounds.

    Message of a to b about b's label j: min_i (belief_a(i) − message_{b→a}(i) + V(i, j)), its own
    least value subtracted. After round 4 each node keeps its 16 best labels.

    Args:
        costs: float32 [n, K], of each label of each node.
        edges: for each set of edges, first and second nodes, int [E]; a node stands at most once
            on each side of a set.
        pairs: for each set V, float32 [K, K, E]: first node's label, second node's, edge.

    Returns:
        int64 [n, min(K, 16)], the labels of each node, the best first: exact where the edges form
        a tree that is no deeper than the rounds.
    """
    rows = np.arange(len(costs))[:, None]
    labels = np.broadcast_to(np.arange(costs.shape[1]), costs.shape)
    pairs = list(pairs)
    messages = [
        (np.zeros((costs.shape[1], len(a)), np.float32),) * 2 for a, _ in edges
    ]  # [K, E], to the second nodes and to the first
    belief = costs

    def passed(
        edge: tuple[tuple[np.ndarray, np.ndarray], np.ndarray, tuple[np.ndarray, np.ndarray]],
    ) -> tuple[np.ndarray, np.ndarray]:
        (a, b), V, (to_b, to_a) = edge
        return _messages(belief[a].T - to_a, belief[b].T - to_b, V, to_b, to_a)

    for done in range(_ROUNDS):
        if done == _PRUNE_AFTER and costs.shape[1] > _PRUNED:
            kept = np.argsort(belief, axis=1, kind="stable")[:, :_PRUNED]
            costs, belief, labels = costs[rows, kept], belief[rows, kept], labels[rows, kept]
            for k, (a, b) in enumerate(edges):
                place = np.arange(len(a))
                # Indices in order, or what they take is not: edges stay last in memory.
                of_a, of_b = (np.ascontiguousarray(kept[nodes].T) for nodes in (a, b))
                pairs[k] = pairs[k][of_a[:, None], of_b[None], place]
                messages[k] = messages[k][0][of_b, place], messages[k][1][of_a, place]
        messages = at_once(passed, zip(edges, pairs, messages, strict=True))
        belief = costs.copy()
        for (a, b), (to_b, to_a) in zip(edges, messages, strict=True):
            belief[b] += to_b.T
            belief[a] += to_a.T
    return np.take_along_axis(labels, np.argsort(belief, axis=1, kind="stable"), 1)


def _messages(
    from_a: np.ndarray, from_b: np.ndarray, V: np.ndarray, to_b: np.ndarray, to_a: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The next messages over a set of edges, to their second and first nodes, float32 [K, E].

    Args:
        from_a: float32 [K, E], beliefs of first nodes without what the second ones told them.
        from_b: the other way round.
        V: float32 [K, K, E].
        to_b: the messages before.
        to_a: the messages before.
    """
    new_b, new_a = np.full_like(to_b, np.inf), np.empty_like(to_a)
    cost = np.empty_like(to_b)
    for i, row in enumerate(V):  # edges come last, so that each step is one long vector's
        np.minimum(new_b, np.add(row, from_a[i], out=cost), out=new_b)
        np.add(row, from_b, out=cost).min(0, out=new_a[i])
    for new, old in ((new_b, to_b), (new_a, to_a)):
        new -= new.min(0)
        new *= np.float32(1 - _DAMPING)
        new += np.float32(_DAMPING) * old
    return new_b, new_a


def at_once(function: Callable[[_Edges], _Found], items: Iterable[_Edges]) -> list[_Found]:
    """The results for each item, a thread each: NumPy works outside Python's lock."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(function, items))
