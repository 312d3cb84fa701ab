"""Images per second of the training pipeline (tf.data), and where the time goes.

    python benchmarks/pipeline.py [--images DIR] [--size 256] [--threads 2] [--masks pic]

Without --images, a temporary folder of JPEGs of 512 px (shorter side) is made of the bundled
photographs, enlarged and with grain, so that their files are as large as photographs of that size
are. Prints two Markdown tables: images per second of the whole pipeline (median and best of the
repeats: other programs on the machine only slow it down), and the least processor time per picture
of each part, on one thread.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gmsrm_jax.assets import asset_path
from gmsrm_jax.config.fields import base_config
from gmsrm_jax.data.crops import View, decode_crop
from gmsrm_jax.data.loading import open_data
from gmsrm_jax.data.masks import sampler
from gmsrm_jax.data.sources import FilePictures, open_pictures
from gmsrm_jax.data.tensorflow_cpu import tf

Part = Callable[[tf.Tensor], tf.Tensor]
_BATCH = 16
_GRAIN = 8.0  # standard deviation, of 255


def make_pictures(folder: pathlib.Path, count: int, shorter: int = 512) -> None:
    """Writes bundled photographs as JPEGs of the given shorter side."""
    rng = np.random.default_rng(0)
    for path in sorted(asset_path("facades/train").iterdir())[:count]:
        with Image.open(path) as picture:
            scale = shorter / min(picture.size)
            size = (round(picture.width * scale), round(picture.height * scale))
            large = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(large) + rng.normal(0.0, _GRAIN, (size[1], size[0], 1))
        grainy = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        grainy.save(folder / path.name, quality=90)


class Stream:
    """The whole pipeline: batches are read as training does, and thrown away."""

    def __init__(self, config: ConfigDict, images: int) -> None:
        """Starts it; `images` are read each time."""
        self._batches = open_data(config).batches(_BATCH, 0, 0)
        self._steps = images // _BATCH
        for _ in range(4):
            next(self._batches)

    def measure(self) -> tuple[float, float]:
        """Returns images per second and processor time per picture [ms]."""
        started, used = time.perf_counter(), time.process_time()
        for _ in range(self._steps):
            next(self._batches)
        taken = self._steps * _BATCH
        cost = (time.process_time() - used) / taken * 1e3
        return taken / (time.perf_counter() - started), cost


def parts_of(config: ConfigDict) -> dict[str, Part]:
    """Returns beginnings of the pipeline, as functions of a picture's number."""
    pictures = open_pictures(config.data.train, config.data)
    assert isinstance(pictures, FilePictures)
    files = tf.constant(pictures.files)
    headers = tf.constant(pictures.headers)
    size, data, draw = config.image_size, config.data, sampler(config.masks.train)

    def crop(index: tf.Tensor) -> tf.Tensor:
        picture = index % len(pictures)
        draws = tf.random.stateless_uniform([4], tf.stack([0, index]))
        low, high = (data.shorter_side * size * scale for scale in data.scale)
        view = View(low + draws[0] * (high - low), draws[1:3], draws[3] < 0.5)
        encoded = tf.io.read_file(files[picture])
        return decode_crop(encoded, headers[picture], view, size, data.max_pixels)

    # One value stands for all of them: copying them out is no part of making them.
    return {
        "nothing": lambda index: index,
        "read": lambda index: tf.strings.length(tf.io.read_file(files[index % len(pictures)])),
        "crop": lambda index: crop(index)[0, 0, 0],
        "mask": lambda index: draw(tf.stack([0, index]), size)[0, 0, 0],
    }


def measure_part(part: Part, images: int) -> float:
    """Returns processor time per picture [ms] of a part, on one thread."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    dataset = tf.data.Dataset.range(images + _BATCH, output_type=tf.int32)
    dataset = dataset.map(part, num_parallel_calls=1).batch(_BATCH).with_options(options)
    iterator = iter(dataset)
    next(iterator)
    used = time.process_time()
    for _ in iterator:
        pass
    return (time.process_time() - used) / images * 1e3


def main() -> None:
    """Measures what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--images", default="", help="folder of pictures; default: see above")
    parser.add_argument("--size", type=int, default=256, help="side of the crops [px]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--masks", default="pic", help="as config.masks.train")
    parser.add_argument("--count", type=int, default=640, help="pictures of each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if not args.images:
            make_pictures(pathlib.Path(temporary), 80)
        config = base_config()
        config.image_size = args.size
        config.masks.train = args.masks
        config.data.update(train=args.images or temporary, num_threads=args.threads)
        config.data.update(validation_bounds=(2, 2), test_fraction=0.0)
        stream, parts = Stream(config, args.count), parts_of(config)
        rates, costs = [], []
        for _ in range(args.repeats):
            rate, whole = stream.measure()
            rates.append(rate)
            costs.append({name: measure_part(part, 320) for name, part in parts.items()})
            costs[-1]["all"] = whole
    least = {name: min(cost[name] for cost in costs) for name in costs[0]}
    table = {
        "read": least["read"] - least["nothing"],
        "decode, scale, crop, flip": least["crop"] - least["read"],
        "mask": least["mask"] - least["nothing"],
    }
    table |= {"everything else": least["all"] - sum(table.values()), "all": least["all"]}
    print("| images/s | median | best |\n| --- | --- | --- |")
    print(
        f"| {args.size} px, {args.threads} threads | {statistics.median(rates):.0f} | "
        f"{max(rates):.0f} |\n"
    )
    print("| part | ms a picture | share |\n| --- | --- | --- |")
    for name, milliseconds in table.items():
        print(f"| {name} | {milliseconds:.2f} | {100 * milliseconds / least['all']:.0f} % |")


if __name__ == "__main__":
    main()
