"""The generators of LISK and MEDFE written out once more, in NumPy float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from partial_references import reference as partial_conv
from scipy.special import expit, softmax

Params = Mapping[str, Any]
SQUARE = ((0, 0), (1, 1), (1, 1), (0, 0))


def conv(
    x: np.ndarray, p: Params, stride: int = 1, pad: int = 0, mode: Any = "constant", step: int = 1
) -> np.ndarray:
    """A convolution of [N, H, W, C], its taps `step` places apart."""
    kernel = np.asarray(p["kernel"], np.float64)
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode=mode)
    span = step * (kernel.shape[0] - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, (span, span), (1, 2))
    windows = windows[:, ::stride, ::stride, :, ::step, ::step]
    y = np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)
    return y + np.asarray(p.get("bias", 0.0), np.float64)


def doubled(x: np.ndarray, p: Params) -> np.ndarray:
    """A transposed convolution: zeros between the places, then an ordinary one."""
    n, h, w, c = x.shape
    spread = np.zeros((n, 2 * h - 1, 2 * w - 1, c))
    spread[:, ::2, ::2] = x
    return conv(spread, p, pad=2)


def norm(x: np.ndarray, p: Params | None = None, epsilon: float = 1e-5) -> np.ndarray:
    y = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + epsilon)
    if p is None:
        return y
    return y * np.asarray(p["scale"], np.float64) + np.asarray(p["bias"], np.float64)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def pooled(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0], -1, x.shape[-1])


def lisk(params: Params, seen: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures and gradients by scale, of the heads that there are."""

    def block(x: np.ndarray, p: Params, pad: int, stride: int = 1) -> np.ndarray:
        return relu(norm(conv(x, p["conv"], stride, pad, "reflect"), p["norm"], 1e-6))

    def up(x: np.ndarray, p: Params) -> np.ndarray:
        return relu(norm(doubled(x, p["conv"]), p["norm"], 1e-6))

    def head(x: np.ndarray, p: Params) -> np.ndarray:
        y = conv(x, p["conv"])
        return norm(y, p["norm"], 1e-6) if "norm" in p else y

    def attention(x: np.ndarray, p: Params) -> np.ndarray:
        y = block(x, p["down"], 1, 2)
        k, q, v = (conv(y, p[name]) for name in ("keys", "queries", "values"))
        weights = softmax(flat(q) @ flat(pooled(k)).swapaxes(1, 2), -1)
        o = (weights @ flat(pooled(v))).reshape(q.shape)
        return x + float(p["gamma"]) * up(o, p["up"])

    x = np.float64(seen)
    x = block(x, params["in"], 3)
    x = block(x, params["down_half"], 1, 2)
    x = block(x, params["down_quarter"], 1, 2)
    for index in range(sum(name.startswith("residual") for name in params)):
        p = params[f"residual_{index}"]
        y = relu(norm(conv(x, p["first"], 1, 2, "reflect", 2), p["first_affine"], 1e-6))
        x = x + norm(conv(y, p["second"], 1, 1, "reflect"), p["second_affine"], 1e-6)
    pictures, gradients = {}, {}
    for scale in ("quarter", "half", "whole"):
        if scale != "quarter":
            x = up(np.concatenate([x, lines], -1), params[f"up_{scale}"])  # noqa: F821
        x = attention(x, params[f"attention_{scale}"])
        lines = block(x, params[f"structure_{scale}"], 2)
        gradients[scale] = head(lines, params[f"gradients_{scale}"])
        if f"picture_{scale}" in params:
            pictures[scale] = np.tanh(head(lines, params[f"picture_{scale}"]))
    return pictures, gradients


def resized(x: np.ndarray, side: int) -> np.ndarray:
    """Linear interpolation between the two nearest places, half-pixel centres, edges repeated."""
    for axis in (1, 2):
        size = x.shape[axis]
        places = (np.arange(side) + 0.5) * size / side - 0.5
        rows = [np.interp(places, np.arange(size), column) for column in np.eye(size)]
        x = np.moveaxis(np.tensordot(np.stack(rows, 1), x, (1, axis)), 0, axis)
    return x


def by_distance(x: np.ndarray) -> np.ndarray:
    """Place by place."""
    places = np.stack(np.meshgrid(*map(np.arange, x.shape[1:3]), indexing="ij"), -1)
    y = np.empty_like(x)
    for i, j in np.ndindex(x.shape[1:3]):
        weights = np.exp(-np.square(places - (i, j)).sum(-1) / (2 * 1.5**2))
        y[:, i, j] = np.tensordot(x, weights / weights.sum(), ((1, 2), (0, 1)))
    return y


def by_similarity(x: np.ndarray) -> np.ndarray:
    """Window by window; outside of the map X and σ(X) are 0."""
    n, h, w, c = x.shape
    values, s = np.pad(x, SQUARE), np.pad(expit(x), SQUARE)
    y = np.empty_like(x)
    for k, i, j in np.ndindex(n, h, w):
        window = np.s_[k, i : i + 3, j : j + 3]
        weights = softmax((s[window].reshape(9, c) * s[k, i + 1, j + 1]).mean(-1))
        y[k, i, j] = weights @ values[window].reshape(9, c)
    return y


def medfe(params: Params, shown: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, ...]:
    """Picture, texture picture, structure picture, in the order of the authors' modules."""
    count = sum(name.startswith("decoder_norm") for name in params) + 1
    middle = params["middle"]

    def chain(x: np.ndarray, p: Params, side: int | None = None, end: bool = True) -> np.ndarray:
        for index in range(len(p)):
            layer = p[f"conv_{index}"]
            halving = layer["kernel"].shape[0] == 4
            x = resized(x, side) if side else x  # before the 1×1 convolution, as the authors do
            x = norm(conv(x, layer, 2 if halving else 1, 1 if halving else 0))
            x = leaky(x) if end or index < len(p) - 1 else x
        return x

    def filled(x: np.ndarray, p: Params) -> np.ndarray:
        masks = [np.repeat(m, x.shape[-1], -1) for m in np.float64(known)]
        for index in range(len(p) // 2):
            kernel = np.asarray(p[f"conv_{index}"]["kernel"])
            found = [
                partial_conv(y, m, kernel, np.zeros(x.shape[-1]), 1)
                for y, m in zip(x, masks, strict=True)
            ]
            x = np.stack([y for y, _ in found])
            masks = [np.repeat(m, x.shape[-1], -1) for _, m in found]
            x = leaky(norm(x, p[f"norm_{index}"]))
        return x

    x, levels = np.float64(shown), []
    for index in range(1, count + 1):
        x = conv(x, params[f"encoder_{index}"], 2, 1)
        if f"encoder_norm_{index}" in params:
            x = norm(x, params[f"encoder_norm_{index}"])
        x = leaky(x) if index < count else x
        levels.append(x)
    step = 2 if x.shape[1] > 2 else 1
    for index in range(sum(name.startswith("residual") for name in params)):
        p = params[f"residual_{index}"]
        y = relu(norm(conv(x, p["first"], 1, step, "reflect", step)))
        x = x + norm(conv(y, p["second"], 1, 1, "reflect"))
    levels[-1] = x

    side = levels[2].shape[1]
    active = [leaky(x) for x in levels]
    texture = [chain(active[k], middle[f"texture_{k + 1}"]) for k in range(3)]
    deep = [chain(x, middle["structure"], side) for x in active[3:]]
    structure = [*deep, *[deep[-1]] * (3 - len(deep))]
    ends = []
    for group in (texture, structure):
        joined = chain(np.concatenate(group, -1), middle["join"])
        stacks = [filled(joined, middle[f"fill_{k}"]) for k in (3, 5, 7)]
        ends.append(chain(np.concatenate(stacks, -1), middle["join"]))
    pictures = [np.tanh(conv(x, middle["picture"])) for x in ends]
    z = chain(np.concatenate(ends[::-1], -1), middle["fuse"])
    p = middle["equalise"]["channels"]
    squeeze, excite = ({k: np.float64(v) for k, v in p[n].items()} for n in ("squeeze", "excite"))
    factors = relu(z.mean((1, 2)) @ squeeze["kernel"] + squeeze["bias"])
    z = z * expit(factors @ excite["kernel"] + excite["bias"])[:, None, None]
    z = np.concatenate([by_distance(z), by_similarity(z)], -1)
    z = leaky(norm(conv(z, middle["equalise"]["conv"])))
    skips = []
    for index, x in enumerate(levels, 1):
        shallow = index <= 3
        back = chain(z, middle[f"back_{index}"], x.shape[1] if shallow else None, shallow)
        skips.append(x + back)
    x = skips.pop()
    for index in range(count, 1, -1):
        x = norm(doubled(relu(x), params[f"decoder_{index}"]), params[f"decoder_norm_{index}"])
        x = np.concatenate([x, skips.pop()], -1)
    return np.tanh(doubled(relu(x), params["decoder_1"])), *pictures
