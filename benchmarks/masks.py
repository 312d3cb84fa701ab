"""Masks per second of every training mask sampler, drawn through tf.data on the CPU.

    python benchmarks/masks.py [--size 256] [--threads 2] [--count 2000] [--repeats 3]
        [--samplers pic lama pic:0.7,lama:0.3]

Prints a Markdown table: the best of the repeats (other programs on the machine only slow them
down), and the mean hole ratio of the masks drawn.
"""

import argparse
import time

from gmsrm_jax.data.masks import SAMPLERS, sampler
from gmsrm_jax.data.tensorflow_cpu import tf

_BATCH = 50


def masks_per_second(name: str, size: int, threads: int, count: int) -> tuple[float, float]:
    """Draws `count` masks after a first batch, which builds the graph.

    Returns:
        Masks per second, and their mean hole ratio.
    """
    draw = sampler(name)

    def mask(index: tf.Tensor) -> tf.Tensor:
        return tf.cast(draw(tf.stack([0, index]), size), tf.uint8)

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    dataset = tf.data.Dataset.range(_BATCH + count, output_type=tf.int32)
    batches = iter(dataset.map(mask, threads).batch(_BATCH).with_options(options))
    next(batches)
    holes = 0
    started = time.perf_counter()
    for batch in batches:
        holes += int(batch.numpy().sum())
    seconds = time.perf_counter() - started
    return count / seconds, holes / (count * size * size)


def main() -> None:
    """Measures what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--size", type=int, default=256, help="side of the masks [px]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--count", type=int, default=2000, help="masks of each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), help="default: all")
    args = parser.parse_args()
    print(f"{args.size} px, {args.threads} threads, best of {args.repeats} x {args.count} masks\n")
    print("| sampler | masks/s | mean hole ratio |")
    print("|---|---:|---:|")
    for name in args.samplers:
        runs = [
            masks_per_second(name, args.size, args.threads, args.count) for _ in range(args.repeats)
        ]
        print(f"| {name} | {max(runs)[0]:,.0f} | {runs[0][1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
