"""Makes the reference arrays of LPIPS and FID's Inception: their definitions in PyTorch.

    python tools/make_perceptual_references.py

Writes tests/data/perceptual_references.npz. The networks are written here from their published
definitions and evaluated in float64 on the random weights and pictures of
tests/perceptual_weights.py. To be run again when those change. Needs PyTorch (2.13.0 wrote the
file), which the package itself does not.
"""

import pathlib
import sys
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

TESTS = pathlib.Path(__file__).resolve().parent.parent / "tests"
State = dict[str, np.ndarray]


def vgg16() -> tuple[nn.Sequential, list[int]]:
    """The features of torchvision's network, and where the compared activations are."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers), [3, 8, 15, 22, 29]


def alexnet() -> tuple[nn.Sequential, list[int]]:
    """The features of torchvision's network, and where the compared activations are."""
    features = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )
    return features, [1, 4, 7, 9, 11]


def tensors(state: State, prefix: str = "") -> dict[str, torch.Tensor]:
    """The entries under a prefix, as tensors."""
    return {
        name.removeprefix(prefix): torch.from_numpy(np.asarray(array))
        for name, array in state.items()
        if name.startswith(prefix)
    }


def lpips_shares(
    net: str, backbone: State, linear: State, prediction: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """Each layer's share of LPIPS 0.1, [N, 5], of images [N, H, W, 3] in 0..255."""
    features, taps = vgg16() if net == "vgg" else alexnet()
    features.load_state_dict(tensors(backbone, "features."))
    features.double()
    heads = tensors(linear)
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[None, :, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[None, :, None, None]

    def activations(images: np.ndarray) -> list[torch.Tensor]:
        x = torch.from_numpy(images.transpose(0, 3, 1, 2)).double() / 127.5 - 1
        x = (x - shift) / scale
        result = []
        for index, layer in enumerate(features):
            x = layer(x)
            if index in taps:
                length = torch.sqrt(torch.sum(x**2, dim=1, keepdim=True))
                result.append(x / (length + 1e-10))
        return result

    shares = [
        functional.conv2d((a - b) ** 2, heads[f"lin{i}.model.1.weight"].double()).mean((1, 2, 3))
        for i, (a, b) in enumerate(zip(activations(prediction), activations(target), strict=True))
    ]
    return torch.stack(shares, dim=1).numpy()


class _Convolution(nn.Module):
    """A convolution without bias, batch normalisation with epsilon 0.001 and a ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int | tuple[int, int], **kwargs: Any):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [N, I, H, W] to [N, O, H', W']."""
        return functional.relu(self.bn(self.conv(x)))


def wide(inputs: int, outputs: int, length: int = 7) -> _Convolution:
    """A padded convolution of 1 × length."""
    return _Convolution(inputs, outputs, (1, length), padding=(0, length // 2))


def high(inputs: int, outputs: int, length: int = 7) -> _Convolution:
    """A padded convolution of length × 1."""
    return _Convolution(inputs, outputs, (length, 1), padding=(length // 2, 0))


def mean_pool(x: torch.Tensor) -> torch.Tensor:
    """3×3 means that do not count the padding."""
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _BlockA(nn.Module):
    """35×35 pixels."""

    def __init__(self, inputs: int, pooled: int):
        super().__init__()
        self.branch1x1 = _Convolution(inputs, 64, 1)
        self.branch5x5_1 = _Convolution(inputs, 48, 1)
        self.branch5x5_2 = _Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, padding=1)
        self.branch_pool = _Convolution(inputs, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [N, I, H, W] to [N, 224 + pooled, H, W]."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(mean_pool(x))], 1)


class _BlockB(nn.Module):
    """35×35 to 17×17 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = _Convolution(288, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Convolution(288, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [N, 288, H, W] to [N, 768, H', W']."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, stride=2)], 1)


class _BlockC(nn.Module):
    """17×17 pixels."""

    def __init__(self, c: int):
        super().__init__()
        self.branch1x1 = _Convolution(768, 192, 1)
        self.branch7x7_1 = _Convolution(768, c, 1)
        self.branch7x7_2 = wide(c, c)
        self.branch7x7_3 = high(c, 192)
        self.branch7x7dbl_1 = _Convolution(768, c, 1)
        self.branch7x7dbl_2 = high(c, c)
        self.branch7x7dbl_3 = wide(c, c)
        self.branch7x7dbl_4 = high(c, c)
        self.branch7x7dbl_5 = wide(c, 192)
        self.branch_pool = _Convolution(768, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [N, 768, H, W] to the same shape."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(mean_pool(x))], 1)


class _BlockD(nn.Module):
    """17×17 to 8×8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = _Convolution(768, 192, 1)
        self.branch3x3_2 = _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Convolution(768, 192, 1)
        self.branch7x7x3_2 = wide(192, 192)
        self.branch7x7x3_3 = high(192, 192)
        self.branch7x7x3_4 = _Convolution(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [N, 768, H, W] to [N, 1280, H', W']."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        pooled = functional.max_pool2d(x, 3, stride=2)
        return torch.cat([three, self.branch7x7x3_4(seven), pooled], 1)


class _BlockE(nn.Module):
    """8×8 pixels; the last one pools by the maximum."""

    def __init__(self, inputs: int, last: bool):
        super().__init__()
        self.last = last
        self.branch1x1 = _Convolution(inputs, 320, 1)
        self.branch3x3_1 = _Convolution(inputs, 384, 1)
        self.branch3x3_2a = wide(384, 384, 3)
        self.branch3x3_2b = high(384, 384, 3)
        self.branch3x3dbl_1 = _Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = _Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = wide(384, 384, 3)
        self.branch3x3dbl_3b = high(384, 384, 3)
        self.branch_pool = _Convolution(inputs, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [N, I, H, W] to [N, 2048, H, W]."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = functional.max_pool2d(x, 3, stride=1, padding=1) if self.last else mean_pool(x)
        branches = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        branches += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([*branches, self.branch_pool(pooled)], 1)


class _Inception(nn.Module):
    """FID's Inception-v3 with pytorch-fid's layer names."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = _BlockA(192, 32)
        self.Mixed_5c = _BlockA(256, 64)
        self.Mixed_5d = _BlockA(288, 64)
        self.Mixed_6a = _BlockB()
        self.Mixed_6b = _BlockC(128)
        self.Mixed_6c = _BlockC(160)
        self.Mixed_6d = _BlockC(160)
        self.Mixed_6e = _BlockC(192)
        self.Mixed_7a = _BlockD()
        self.Mixed_7b = _BlockE(1280, last=False)
        self.Mixed_7c = _BlockE(2048, last=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [N, 3, H, W] in 0..1 to [N, 2048]."""
        x = functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)
        x = 2 * x - 1
        for layer in self.children():
            x = layer(x)
        return x.mean((2, 3))


def inception_features(state: State, images: np.ndarray) -> np.ndarray:
    """Features [N, 2048] of images [N, H, W, 3] in 0..255."""
    network = _Inception()
    network.load_state_dict(
        {name: tensor for name, tensor in tensors(state).items() if not name.startswith("fc.")}
    )
    network.double().eval()
    return network(torch.from_numpy(images.transpose(0, 3, 1, 2)).double() / 255).numpy()


@torch.no_grad()
def main() -> None:
    """Evaluates the definitions and writes the arrays."""
    sys.path.insert(0, str(TESTS))
    import perceptual_weights as drawn

    arrays: dict[str, Any] = {}
    for net in ("vgg", "alex"):
        states = drawn.backbone_state(net), drawn.heads_state(net)
        for name, pair in drawn.picture_pairs().items():
            arrays[f"lpips_{net}_{name}"] = lpips_shares(net, *states, *pair)
    for name, images in drawn.inception_pictures().items():
        arrays[f"inception_{name}"] = inception_features(drawn.inception_state(), images)
    path = TESTS / "data" / "perceptual_references.npz"
    np.savez_compressed(path, **arrays)
    for name, array in arrays.items():
        print(f"{name} {array.shape}: mean {array.mean():.6g}, deviation {array.std():.6g}")
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
