"""Makes the reference arrays of LPIPS and FID's Inception by the packages that define them.

    pip install torch torchvision lpips pytorch-fid
    python tools/make_perceptual_references.py

Writes tests/data/perceptual_references.npz: `lpips` 0.1.4 and `pytorch-fid` 0.3.0 in float64 on the
random weights and pictures of tests/perceptual_weights.py. To be run again when those change.
"""

import pathlib
import sys
from typing import Any
from unittest import mock

import lpips
import numpy as np
import pytorch_fid.inception
import torch

TESTS = pathlib.Path(__file__).resolve().parent.parent / "tests"
State = dict[str, np.ndarray]


def tensors(state: State) -> dict[str, torch.Tensor]:
    """A state dict of tensors."""
    return {name: torch.from_numpy(np.asarray(array)) for name, array in state.items()}


def planes(images: np.ndarray) -> torch.Tensor:
    """Images [N, H, W, 3] in 0..255 as [N, 3, H, W] in 0..1."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2)).double() / 255


def lpips_shares(net: str, backbone: State, heads: State, *pair: np.ndarray) -> np.ndarray:
    """Each layer's share of LPIPS 0.1, [N, 5], of two images [N, H, W, 3] in 0..255."""
    measure = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    state = tensors(heads)
    for name in measure.state_dict():  # "net.slice1.0.weight" is torchvision's "features.0.weight"
        if name.startswith("net."):
            state[name] = tensors(backbone)["features." + name.split(".", 2)[2]]
    given = measure.load_state_dict(state, strict=False)
    assert not given.unexpected_keys
    assert all(name.startswith(("scaling_layer", "lins.")) for name in given.missing_keys)
    _, shares = measure.double().eval()(*map(planes, pair), retPerLayer=True, normalize=True)
    return torch.cat(shares, 1)[:, :, 0, 0].numpy()


def inception_features(state: State, images: np.ndarray) -> np.ndarray:
    """Features [N, 2048] of images [N, H, W, 3] in 0..255."""
    whole = tensors(state) | {"fc.weight": torch.zeros(1008, 2048)}
    with mock.patch.object(
        pytorch_fid.inception, "load_state_dict_from_url", return_value=whole
    ):  # in place of the published weights
        network = pytorch_fid.inception.InceptionV3()
    return network.double().eval()(planes(images))[0][:, :, 0, 0].numpy()


@torch.no_grad()
def main() -> None:
    """Evaluates the definitions and writes the arrays."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    import perceptual_weights as drawn

    arrays: dict[str, Any] = {}
    for net in ("vgg", "alex"):
        states = drawn.backbone_state(f"lpips_{net}"), drawn.heads_state(f"lpips_{net}")
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
