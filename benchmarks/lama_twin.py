"""Seconds that a network of big-LaMa's architecture takes, in PyTorch with random weights.

    PYTHON_WITH_TORCH benchmarks/lama_twin.py HEIGHT WIDTH [--threads N] [--repeats N]

A timing twin: the generator of Suvorov et al. (WACV 2022), an FFC-ResNet with 64 first channels,
three downsamplings, 18 blocks whose global share is 0.75, and 51 million parameters. Imports
nothing of this project; prints one JSON line with the count of parameters and the least seconds.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Spectral(nn.Module):
    """Global to global: a 1×1 bottleneck around a convolution of the spectrum."""

    def __init__(self, channels: int):
        """Takes the channels in and out."""
        super().__init__()
        half = channels // 2
        self.first = nn.Sequential(
            nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()
        )
        self.spectrum = nn.Sequential(
            nn.Conv2d(2 * half, 2 * half, 1, bias=False), nn.BatchNorm2d(2 * half), nn.ReLU()
        )
        self.last = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        x = self.first(x)
        z = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        real, imaginary = self.spectrum(torch.cat([z.real, z.imag], 1)).chunk(2, 1)
        z = torch.complex(real, imaginary)
        return self.last(x + torch.fft.irfftn(z, s=x.shape[-2:], dim=(-2, -1), norm="ortho"))


class Fourier(nn.Module):
    """A fast Fourier convolution 3×3 of a local and a global part, with norm and ReLU."""

    def __init__(self, local: int, wide: int):
        """Takes the channels of both parts."""
        super().__init__()
        self.local_local = nn.Conv2d(local, local, 3, bias=False)
        self.local_wide = nn.Conv2d(local, wide, 3, bias=False)
        self.wide_local = nn.Conv2d(wide, local, 3, bias=False)
        self.wide_wide = Spectral(wide)
        self.norms = nn.ModuleList([nn.BatchNorm2d(local), nn.BatchNorm2d(wide)])

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Local and global part to the same."""
        around = (F.pad(part, (1, 1, 1, 1), mode="reflect") for part in (x, y))
        x_around, y_around = around
        local = self.local_local(x_around) + self.wide_local(y_around)
        wide = self.local_wide(x_around) + self.wide_wide(y)
        return F.relu(self.norms[0](local)), F.relu(self.norms[1](wide))


class Generator(nn.Module):
    """Picture and mask [N, 4, H, W] to a picture [N, 3, H, W]; sides are multiples of 8."""

    def __init__(self, channels: int = 64, blocks: int = 18, share: float = 0.75):
        """Takes the first channels, the blocks and the global share of the deepest features."""
        super().__init__()
        deep = 8 * channels
        wide = int(deep * share)
        self.stem = nn.Sequential(_unit(4, channels, 7))
        self.down = nn.Sequential(
            *(_unit(channels << k, channels << (k + 1), 3, stride=2) for k in range(2))
        )
        # The last downsampling parts the features.
        self.part = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(deep // 2, n, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(n),
                nn.ReLU(),
            )
            for n in (deep - wide, wide)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList([Fourier(deep - wide, wide) for _ in range(2)]) for _ in range(blocks)
        )
        self.up = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose2d(
                        deep >> k, deep >> (k + 1), 3, stride=2, padding=1, output_padding=1
                    ),
                    nn.BatchNorm2d(deep >> (k + 1)),
                    nn.ReLU(),
                )
                for k in range(3)
            )
        )
        self.out = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(channels, 3, 7), nn.Sigmoid())

    def forward(self, picture: Tensor) -> Tensor:
        """See the class."""
        z = self.down(self.stem(picture))
        x, y = (part(z) for part in self.part)
        for one, two in self.blocks:
            a, b = two(*one(x, y))
            x, y = x + a, y + b
        return self.out(self.up(torch.cat([x, y], 1)))


def _unit(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad2d(side // 2),
        nn.Conv2d(inputs, outputs, side, stride=stride, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def main() -> None:
    """Times the network on noise."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("height", type=int)
    parser.add_argument("width", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network = Generator().eval()
    sides = [-(-side // 8) * 8 for side in (args.height, args.width)]
    picture = torch.rand(1, 4, *sides)
    seconds, cpu = [], []
    with torch.inference_mode():
        network(picture[..., :64, :64])
        for _ in range(args.repeats):
            began, began_cpu = time.perf_counter(), time.process_time()
            network(picture)
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - began_cpu)
    count = sum(p.numel() for p in network.parameters())
    print(json.dumps({"parameters": count, "seconds": min(seconds), "cpu_seconds": min(cpu)}))


if __name__ == "__main__":
    main()
