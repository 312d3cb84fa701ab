"""The blocks of `blocks.py` in PyTorch eager, for comparison; imports nothing of this project.

Started by `twin.py` with a Python that has PyTorch. Reads one JSON request a line, writes one JSON
answer a line:

    {"load": FILE.npz, "kind": KIND}   ->  {"output_error": e, "gradient_error": e}
    {"run": COUNT}                     ->  {"seconds": [...]}

Errors are ‖twin - JAX‖ / ‖JAX‖, the largest over arrays; the norm of a gradient counts as at least
a hundredth of the largest gradient's. Of the two memory formats of PyTorch, the one that is faster
for the block is timed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Params = dict[str, torch.Tensor]

_LEAKY_GAIN = 2.0**0.5
_VGG = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
_VGG_MEAN, _VGG_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _fir(channels: int, gain: float) -> torch.Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return (gain / 64.0 * torch.outer(taps, taps)).expand(channels, 1, 4, 4)


def _fir_upsample(x: torch.Tensor) -> torch.Tensor:
    c = x.shape[1]
    return F.conv_transpose2d(x, _fir(c, 4.0), stride=2, padding=1, groups=c)


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2) * _LEAKY_GAIN


def _conv(p: Params, name: str, x: torch.Tensor, **options: Any) -> torch.Tensor:
    return F.conv2d(x, p[f"{name}/kernel"], p.get(f"{name}/bias"), **options)


def _dense(p: Params, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, p[f"{name}/kernel"], p[f"{name}/bias"])


def _residual_attention(p: Params, name: str, x: torch.Tensor) -> torch.Tensor:
    y = F.relu(F.instance_norm(_conv(p, f"{name}/conv/conv", x, padding=1), eps=1e-5))
    s = F.relu(_dense(p, f"{name}/attention/squeeze", y.mean((2, 3))))
    s = torch.sigmoid(_dense(p, f"{name}/attention/excite", s))
    return x + y * s[:, :, None, None]


def _encoder(p: Params, x: torch.Tensor) -> list[torch.Tensor]:
    x = F.relu(F.instance_norm(_conv(p, "down/conv", x, stride=2, padding=1), eps=1e-5))
    return [_residual_attention(p, "block", x)]


def _decoder(p: Params, *maps: torch.Tensor) -> list[torch.Tensor]:
    x = F.interpolate(torch.cat(maps, 1), scale_factor=2, mode="bilinear", align_corners=False)
    x = F.relu(F.instance_norm(_conv(p, "up/conv", x, padding=1), eps=1e-5))
    return [_residual_attention(p, "block", x)]


def _equal_dense(p: Params, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, p[f"{name}/kernel"] / x.shape[1] ** 0.5, p[f"{name}/bias"])


def _synthesis(
    p: Params, name: str, x: torch.Tensor, code: torch.Tensor, noise: torch.Tensor, up: bool
) -> torch.Tensor:
    style = _equal_dense(p, f"{name}/style", code)
    kernel = p[f"{name}/kernel"] / (9 * x.shape[1]) ** 0.5
    if up:
        x = _fir_upsample(x)
    y = F.conv2d(x * style[:, :, None, None], kernel, padding=1)
    demodulation = torch.rsqrt(style.square() @ kernel.square().sum((2, 3)).T + 1e-8)
    y = y * demodulation[:, :, None, None] + p[f"{name}/noise_strength"] * noise
    return _leaky(y + p[f"{name}/bias"][None, :, None, None])


def _memory(
    p: Params, x: torch.Tensor, image: torch.Tensor, code: torch.Tensor, *noise: torch.Tensor
) -> list[torch.Tensor]:
    x = _synthesis(p, "up", x, code, noise[0], up=True)
    x = _synthesis(p, "conv", x, code, noise[1], up=False)
    style = _equal_dense(p, "rgb/style", code)
    rgb = F.conv2d(x * style[:, :, None, None], p["rgb/kernel"] / x.shape[1] ** 0.5, p["rgb/bias"])
    return [x, _fir_upsample(image) + rgb]


def _equal_conv(p: Params, name: str, x: torch.Tensor, **options: Any) -> torch.Tensor:
    kernel = p[f"{name}/kernel"]
    gain = (kernel.shape[1] * kernel.shape[2] * kernel.shape[3]) ** -0.5
    return F.conv2d(x, kernel * gain, p.get(f"{name}/bias"), **options)


def _discriminator(p: Params, x: torch.Tensor) -> list[torch.Tensor]:
    c = x.shape[1]
    y = _leaky(_equal_conv(p, "conv", x, padding=1))
    y = F.conv2d(y, _fir(c, 1.0), padding=2, groups=c)
    y = _leaky(_equal_conv(p, "down", y, stride=2))
    skip = _equal_conv(p, "skip", F.conv2d(x, _fir(c, 1.0), stride=2, padding=1, groups=c))
    return [(y + skip) * 0.5**0.5]


def _patch(p: Params, x: torch.Tensor) -> list[torch.Tensor]:
    return [F.leaky_relu(_conv(p, "conv", x, stride=2, padding=1), 0.2)]


def _fusion(p: Params, memory: torch.Tensor, encoder: torch.Tensor) -> list[torch.Tensor]:
    x = F.conv2d(torch.cat([memory, encoder], 1), p["kernel"], p["bias"], padding=1)
    size, own = (y.square().mean((1, 2, 3), keepdim=True).add(1e-8).sqrt() for y in (memory, x))
    return [x * (size / own)]


def _vgg_features(p: Params, x: torch.Tensor) -> list[torch.Tensor]:
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (_VGG_MEAN, _VGG_STD))
    x = (x * 0.5 + 0.5 - mean) / std
    found: list[torch.Tensor] = []
    for name in _VGG:
        if name.endswith("_1") and found:
            x = F.max_pool2d(x, 2)
        x = F.relu(_conv(p, name, x, padding=1))
        if name.endswith("_1"):
            found.append(x)
    return found


def _vgg(p: Params, image: torch.Tensor, target: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        wanted = _vgg_features(p, target)
    terms = [
        (seen - want).abs().mean()
        for seen, want in zip(_vgg_features(p, image), wanted, strict=True)
    ]
    return [torch.stack(terms).sum()[None]]


KINDS: dict[str, Callable[..., list[torch.Tensor]]] = {
    "encoder": _encoder,
    "decoder": _decoder,
    "memory": _memory,
    "discriminator": _discriminator,
    "patch": _patch,
    "fusion": _fusion,
    "vgg": _vgg,
}


def _to_torch(name: str, array: np.ndarray, channels_last: bool) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if name.endswith("kernel"):
        tensor = tensor.permute(3, 2, 0, 1) if array.ndim == 4 else tensor.T
    elif array.ndim == 4:
        tensor = tensor.permute(0, 3, 1, 2)
    if array.ndim == 4 and channels_last:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.contiguous()


def _to_numpy(name: str, tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    if name.endswith("kernel"):
        tensor = tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
    elif tensor.ndim == 4:
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.numpy()


class Twin:
    """A block with the weights and inputs of a file."""

    def __init__(self, kind: str, arrays: dict[str, np.ndarray], channels_last: bool):
        """Takes weights and inputs."""
        given = {
            name: _to_torch(name, array, channels_last)
            for name, array in arrays.items()
            if name.startswith(("params/", "input/", "weight/"))
        }
        self.arrays = arrays
        self.function = KINDS[kind]
        self.moving = {
            name: given[name.removeprefix("gradient/")].requires_grad_()
            for name in arrays
            if name.startswith("gradient/")
        }
        self.params = {
            name.removeprefix("params/"): tensor
            for name, tensor in given.items()
            if name.startswith("params/")
        }
        self.inputs, self.weights = (
            [given[f"{part}/{k}"] for k in range(len(given)) if f"{part}/{k}" in given]
            for part in ("input", "weight")
        )

    def __call__(self) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
        """Outputs, and gradients of their weighted sum."""
        outputs = self.function(self.params, *self.inputs)
        terms = [(y * w).sum() for y, w in zip(outputs, self.weights, strict=True)]
        total = torch.stack(terms).sum()
        return outputs, torch.autograd.grad(total, list(self.moving.values()))

    def errors(self) -> dict[str, float]:
        """Largest relative error of an output and of a gradient, against the file's."""
        outputs, gradients = self()
        largest = max(_norm(self.arrays[name]) for name in self.moving)
        pairs = [(f"output/{k}", y) for k, y in enumerate(outputs)]
        return {
            "output_error": max(_error(_to_numpy(n, y), self.arrays[n]) for n, y in pairs),
            "gradient_error": max(
                _error(_to_numpy(name, gradient), self.arrays[name], 1e-2 * largest)
                for name, gradient in zip(self.moving, gradients, strict=True)
            ),
        }

    def seconds(self, count: int) -> list[float]:
        """Seconds of so many runs."""
        times = []
        for _ in range(count):
            started = time.perf_counter()
            self()
            times.append(time.perf_counter() - started)
        return times


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array))


def _error(found: np.ndarray, wanted: np.ndarray, least: float = 1e-30) -> float:
    return _norm(found - wanted) / max(_norm(wanted), least)


def main() -> None:
    """Answers requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)
    twin: Twin | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            with np.load(request["load"], allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            both = [Twin(request["kind"], arrays, last) for last in (False, True)]
            answer: dict[str, Any] = both[0].errors()
            both[1].seconds(1)
            fastest = [min(candidate.seconds(2)) for candidate in both]
            twin = both[int(np.argmin(fastest))]
            answer["channels_last"] = twin is both[1]
        else:
            assert twin is not None  # the first request loads
            answer = {"seconds": twin.seconds(request["run"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
