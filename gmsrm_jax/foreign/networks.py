"""The published networks whose weights are converted: their layers, files and normalisations.

A layer is a convolution, [height, width, inputs, outputs] for its kernel. Nothing of a classifier
is needed. The networks:

- VGG-16 and VGG-19: Simonyan and Zisserman (arXiv 1409.1556), table 1, columns D and E.
- AlexNet: that of "One weird trick" (Krizhevsky, arXiv 1404.5997), as torchvision has it.
- LPIPS 0.1 (Zhang et al., arXiv 1801.03924): VGG-16 or AlexNet, with one weight of each channel of
  five activations, the linear heads.
- FID's Inception-v3 (Szegedy et al., arXiv 1512.00567), the network of 2015-12-05 with which FID is
  defined (Heusel et al., arXiv 1706.08500), as pytorch-fid has it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# What the networks are shown: RGB in [0, 1] less ImageNet's mean, over its deviation; BGR in
# 0..255 less its mean; RGB in [-1, 1].
TORCHVISION, CAFFE, TENSORFLOW = "torchvision", "caffe", "tensorflow"


class Layer(NamedTuple):
    """A convolution.

    Attributes:
        published: its name in the published file.
        kernel: its kernel's height, width, inputs and outputs.
    """

    published: str
    kernel: tuple[int, int, int, int]


Layers = Mapping[str, Layer]


class PublishedFile(NamedTuple):
    """A public file of weights: its address, and the SHA-256 of its bytes or how that begins."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """Its name, the last part of the address."""
        return self.url.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class Part:
    """What a network takes from one file.

    Attributes:
        option: of `gmsrm convert`, names the file.
        file: the published one.
        layers: by this project's names.
        arrays: what the file has of each layer, by its role: {"kernel": "weight"} for
            "PUBLISHED.weight"; see `NORMED` for batch normalisation.
    """

    option: str
    file: PublishedFile
    layers: Layers
    arrays: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that `gmsrm convert` makes a file of.

    Attributes:
        title: what people call it.
        command: what follows `gmsrm convert`.
        parts: the files that it is made of.
        normalisations: what it can have been trained on; the first is that of the published file.
    """

    title: str
    command: str
    parts: tuple[Part, ...]
    normalisations: tuple[str, ...]

    @property
    def layers(self) -> dict[str, Layer]:
        """All its layers, in their order."""
        return {name: layer for part in self.parts for name, layer in part.layers.items()}

    def convert_command(self, output: object) -> str:
        """The command that makes `output` of the published files."""
        inputs = " ".join(f"{part.option} {part.file.name}" for part in self.parts)
        return f"gmsrm convert {self.command} {inputs} --output {converted_name(output)}"

    def recipe(self, output: object) -> str:
        """What to fetch, and the command that makes `output` of it."""
        urls = " and ".join(part.file.url for part in self.parts)
        return f"fetch {urls} and run `{self.convert_command(output)}`"


def converted_name(path: object) -> str:
    """The path with the ending of converted weights in place of .npz, or added if it has none."""
    return str(path).removesuffix(".npz").removesuffix(".safetensors") + ".safetensors"


def _vgg(blocks: Sequence[tuple[int, int]]) -> Layers:
    """Of (convolutions, channels) per block: "conv1_1", ... by their index in `features`."""
    layers, index, inputs = {}, 0, 3
    for block, (count, outputs) in enumerate(blocks, start=1):
        for i in range(1, count + 1):
            layers[f"conv{block}_{i}"] = Layer(f"features.{index}", (3, 3, inputs, outputs))
            index += 2  # the ReLU behind it
            inputs = outputs
        index += 1  # the pooling behind the block
    return layers


def _heads(channels: Sequence[int]) -> Layers:
    return {f"lin{i}": Layer(f"lin{i}.model.1", (1, 1, c, 1)) for i, c in enumerate(channels)}


VGG16 = _vgg(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)))
VGG19 = _vgg(((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)))
ALEXNET = {
    "conv1": Layer("features.0", (11, 11, 3, 64)),
    "conv2": Layer("features.3", (5, 5, 64, 192)),
    "conv3": Layer("features.6", (3, 3, 192, 384)),
    "conv4": Layer("features.8", (3, 3, 384, 256)),
    "conv5": Layer("features.10", (3, 3, 256, 256)),
}


# A chain of convolutions by the outputs, height and width of each; its first takes the inputs.
_Chains = Mapping[str, Sequence[tuple[int, int, int]]]


def _block(name: str, inputs: int, chains: _Chains) -> Layers:
    """A block of Inception; the layers of a chain of several are numbered."""
    layers = {}
    for chain, convolutions in chains.items():
        before = inputs
        for i, (outputs, height, width) in enumerate(convolutions, start=1):
            full = f"{name}.{chain}" + (f"_{i}" if len(convolutions) > 1 else "")
            layers[full] = Layer(full, (height, width, before, outputs))
            before = outputs
    return layers


_DOUBLE = ((64, 1, 1), (96, 3, 3), (96, 3, 3))


def _block_a(name: str, inputs: int, pooled: int) -> Layers:
    chains = {
        "branch1x1": ((64, 1, 1),),
        "branch5x5": ((48, 1, 1), (64, 5, 5)),
        "branch3x3dbl": _DOUBLE,
        "branch_pool": ((pooled, 1, 1),),
    }
    return _block(name, inputs, chains)


def _block_c(name: str, c: int) -> Layers:
    chains = {
        "branch1x1": ((192, 1, 1),),
        "branch7x7": ((c, 1, 1), (c, 1, 7), (192, 7, 1)),
        "branch7x7dbl": ((c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)),
        "branch_pool": ((192, 1, 1),),
    }
    return _block(name, 768, chains)


def _block_e(name: str, inputs: int) -> Layers:
    """Two branches end in two convolutions beside each other."""
    chains = {
        "branch1x1": ((320, 1, 1),),
        "branch3x3_1": ((384, 1, 1),),
        "branch3x3dbl": ((448, 1, 1), (384, 3, 3)),
        "branch_pool": ((192, 1, 1),),
    }
    beside = {"a": ((384, 1, 3),), "b": ((384, 3, 1),)}
    ends = {
        branch + end: beside[end] for branch in ("branch3x3_2", "branch3x3dbl_3") for end in beside
    }
    return {**_block(name, inputs, chains), **_block(name, 384, ends)}


_STEM = {
    "Conv2d_1a_3x3": (3, 3, 3, 32),
    "Conv2d_2a_3x3": (3, 3, 32, 32),
    "Conv2d_2b_3x3": (3, 3, 32, 64),
    "Conv2d_3b_1x1": (1, 1, 64, 80),
    "Conv2d_4a_3x3": (3, 3, 80, 192),
}
INCEPTION: Layers = {
    **{name: Layer(name, kernel) for name, kernel in _STEM.items()},
    **_block_a("Mixed_5b", 192, 32),
    **_block_a("Mixed_5c", 256, 64),
    **_block_a("Mixed_5d", 288, 64),
    **_block("Mixed_6a", 288, {"branch3x3": ((384, 3, 3),), "branch3x3dbl": _DOUBLE}),
    **_block_c("Mixed_6b", 128),
    **_block_c("Mixed_6c", 160),
    **_block_c("Mixed_6d", 160),
    **_block_c("Mixed_6e", 192),
    **_block(
        "Mixed_7a",
        768,
        {
            "branch3x3": ((192, 1, 1), (320, 3, 3)),
            "branch7x7x3": ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
        },
    ),
    **_block_e("Mixed_7b", 1280),
    **_block_e("Mixed_7c", 2048),
}

_CONVOLUTION = {"kernel": "weight", "bias": "bias"}
_HEAD = {"kernel": "weight"}
# A convolution without bias, and the batch normalisation behind it.
NORMED = {
    "kernel": "conv.weight",
    "gain": "bn.weight",
    "offset": "bn.bias",
    "mean": "bn.running_mean",
    "variance": "bn.running_var",
}
_MODELS = "https://download.pytorch.org/models/"
_LPIPS = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity"
    "/082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/"
)


def _lpips(net: str, layers: Layers, file: PublishedFile, heads: PublishedFile) -> Network:
    channels = (64, 128, 256, 512, 512) if net == "vgg" else (64, 192, 384, 256, 256)
    parts = (
        Part("--backbone", file, layers, _CONVOLUTION),
        Part("--heads", heads, _heads(channels), _HEAD),
    )
    return Network(f"LPIPS 0.1 with {net}", f"lpips --net {net}", parts, (TORCHVISION,))


NETWORKS = {
    "vgg19": Network(
        "VGG-19",
        "vgg19",
        (
            Part(
                "--input",
                PublishedFile(_MODELS + "vgg19-dcbb9e9d.pth", "dcbb9e9d"),
                VGG19,
                _CONVOLUTION,
            ),
        ),
        (TORCHVISION, CAFFE),
    ),
    "lpips_vgg": _lpips(
        "vgg",
        VGG16,
        PublishedFile(
            _MODELS + "vgg16-397923af.pth",
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        ),
        PublishedFile(
            _LPIPS + "vgg.pth",
            "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        ),
    ),
    "lpips_alex": _lpips(
        "alex",
        ALEXNET,
        PublishedFile(
            _MODELS + "alexnet-owt-7be5be79.pth",
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        ),
        PublishedFile(
            _LPIPS + "alex.pth",
            "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        ),
    ),
    "inception": Network(
        "FID's Inception",
        "inception",
        (
            Part(
                "--input",
                PublishedFile(
                    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                    "pt_inception-2015-12-05-6726825d.pth",
                    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                ),
                INCEPTION,
                NORMED,
            ),
        ),
        (TENSORFLOW,),
    ),
}
