"""Partial convolution, and PConv's network of them, as loops in float64."""

from typing import Any

import numpy as np


def reference(
    x: np.ndarray, known: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    """One picture [H, W, C] with a mask for each of its channels, window by window in float64."""
    size = kernel.shape[0]
    pad = ((size // 2, size // 2), (size // 2, size // 2), (0, 0))
    x, known = np.pad(x.astype(np.float64), pad), np.pad(known, pad)
    rows, columns = (-(-(s - size + 1) // stride) for s in x.shape[:2])
    y = np.zeros((rows, columns, kernel.shape[3]))
    mask = np.zeros((rows, columns, 1))
    for i, j in np.ndindex(rows, columns):
        window = np.s_[i * stride : i * stride + size, j * stride : j * stride + size]
        count = known[window].sum()
        if count:
            total = np.tensordot(x[window] * known[window], kernel.astype(np.float64), 3)
            y[i, j], mask[i, j] = total * kernel[..., 0].size / count + bias, 1
    return y, mask


def reference_network(
    variables: dict[str, Any], image: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """PConv's output for one normalised picture [S, S, 3] and what is known of it [S, S, 1].

    Every tensor has a mask for each of its channels; norms use running statistics.
    """
    params, statistics = variables["params"], variables["batch_stats"]
    levels = sum(name.startswith("encoder") for name in params)

    def layer(name: str, x: np.ndarray, mask: np.ndarray, stride: int) -> tuple[Any, Any]:
        block = params[name]
        kernel = np.asarray(block.get("conv", block)["kernel"])
        y, known = reference(x, mask, kernel, np.asarray(block.get("bias", 0.0)), stride)
        if "norm" in block:
            scale, shift = (np.float64(block["norm"][k]) for k in ("scale", "bias"))
            mean, variance = (np.float64(statistics[name]["norm"][k]) for k in ("mean", "var"))
            y = (y - mean) / np.sqrt(variance + 1e-5) * scale + shift
        if name != "decoder_1":
            y = np.where(y > 0, y, (0.0 if stride == 2 else 0.2) * y)
        return y, np.repeat(known, y.shape[-1], -1)

    x, mask = image.astype(np.float64), np.repeat(known, 3, -1)
    skips = [(x, mask)]
    for i in range(1, levels + 1):
        x, mask = layer(f"encoder_{i}", x, mask, 2)
        skips.append((x, mask))
    skips.pop()
    for i in range(levels, 0, -1):
        doubled = [np.repeat(np.repeat(a, 2, 0), 2, 1) for a in (x, mask)]
        joined = [np.concatenate(pair, -1) for pair in zip(doubled, skips.pop(), strict=True)]
        x, mask = layer(f"decoder_{i}", *joined, 1)
    return x
