"""Random weights of the perceptual networks, in the published files' names, and pictures for them.

All is drawn with NumPy from fixed seeds, so that tools/make_perceptual_references.py evaluates the
definitions in PyTorch on the very arrays that the tests convert.
"""

import numpy as np

from gmsrm_jax.foreign.convert import convert
from gmsrm_jax.foreign.networks import INCEPTION, NETWORKS


def kernel(rng, layer):
    """He's initialisation, [O, I, H, W]."""
    height, width, inputs, outputs = layer.kernel
    deviation = np.float32(np.sqrt(2 / (inputs * height * width)))
    return deviation * rng.standard_normal((outputs, inputs, height, width), np.float32)


def backbone_state(name):
    """In torchvision's names; of the classifier, which is not needed, only a bias."""
    rng = np.random.default_rng(1)
    state = {}
    for layer in NETWORKS[name].parts[0].layers.values():
        state[f"{layer.published}.weight"] = kernel(rng, layer)
        state[f"{layer.published}.bias"] = 0.1 * rng.standard_normal(layer.kernel[3], np.float32)
    state["classifier.6.bias"] = rng.standard_normal(1000, np.float32)
    return state


def heads_state(name):
    """LPIPS's names; the weights are not negative."""
    rng = np.random.default_rng(2)
    return {
        f"{layer.published}.weight": rng.random((1, layer.kernel[2], 1, 1), np.float32)
        for layer in NETWORKS[name].parts[1].layers.values()
    }


def inception_state():
    """pytorch-fid's names."""
    rng = np.random.default_rng(3)
    state = {}
    for name, layer in INCEPTION.items():
        outputs = layer.kernel[3]
        state[f"{name}.conv.weight"] = kernel(rng, layer)
        state[f"{name}.bn.weight"] = rng.uniform(0.8, 1.2, outputs).astype(np.float32)
        state[f"{name}.bn.bias"] = 0.1 * rng.standard_normal(outputs, np.float32)
        state[f"{name}.bn.running_mean"] = 0.1 * rng.standard_normal(outputs, np.float32)
        state[f"{name}.bn.running_var"] = rng.uniform(0.8, 1.2, outputs).astype(np.float32)
        state[f"{name}.bn.num_batches_tracked"] = np.zeros((), np.float32)
    state["fc.bias"] = rng.standard_normal(1008, np.float32)
    return state


def converted(monkeypatch, folder, name, *states, **options):
    """Path of the file that `convert` makes of state dicts, in the place of what torch reads."""
    inputs = [folder / f"{part.option.strip('-')}.pth" for part in NETWORKS[name].parts]
    for path in inputs:
        path.write_bytes(path.name.encode())
    read = dict(zip(inputs, states, strict=True)).__getitem__
    monkeypatch.setattr("gmsrm_jax.foreign.convert.read_state_dict", read)
    output = folder / "weights" / f"{name}.safetensors"
    convert(name, inputs, output, **{"any_file": True, **options})
    return output


def pictures(seed, count, height, width):
    """uint8 [count, height, width, 3]: coloured patches of 8 px with noise."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (count, -(-height // 8), -(-width // 8), 3))
    grown = patches.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return np.clip(grown + rng.normal(0, 12, grown.shape), 0, 255).astype(np.uint8)


def picture_pairs():
    """name -> (prediction, target), uint8 [N, H, W, 3]: noise, a grey hole, sides that are odd."""
    target = pictures(4, 2, 64, 48)
    noise = np.random.default_rng(5).normal(0, 20, target.shape)
    noisy = np.clip(target + noise, 0, 255).astype(np.uint8)
    odd = pictures(6, 1, 45, 67)
    hole = odd.copy()
    hole[:, 10:30, 20:50] = 128
    return {"noise": (noisy, target), "hole": (hole, odd)}


def inception_pictures():
    """name -> uint8 [N, H, W, 3]: pictures that the network enlarges, and one that it shrinks."""
    return {"small": pictures(7, 2, 64, 80), "large": pictures(8, 1, 310, 410)}
