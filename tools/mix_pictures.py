"""Links pictures of several sources into one folder, so that a training draws sources evenly.

    python tools/mix_pictures.py --out data/mixed --times facade=4,coco=10 \
        facades=data/facades photos=data/photos

Every NAME=DIR has train/ and val/. A source is what stands before the first _ of a file's name. In
OUT/train each picture of a source is linked so many times, once by default; OUT/val has four of
every source, chosen by a hash of the name, which train/ lacks; OUT/test has all of val/.
"""

import argparse
import hashlib
import pathlib
from collections import defaultdict

_VALIDATION = 4  # pictures of a source


def mix(
    folders: dict[str, pathlib.Path], times: dict[str, int], out: pathlib.Path
) -> dict[str, int]:
    """Links the pictures.

    Args:
        folders: by the name that goes before those of their files.
        times: links of each picture in OUT/train, by source.
        out: a folder that is not there yet.

    Returns:
        Links in OUT/train of each source.
    """
    for split in ("train", "val", "test"):
        (out / split).mkdir(parents=True)
    sources: dict[str, list[tuple[str, pathlib.Path]]] = defaultdict(list)
    for name, folder in folders.items():
        for path in sorted((folder / "train").iterdir()):
            sources[path.name.split("_")[0]].append((name, path.resolve()))
        for path in sorted((folder / "val").iterdir()):
            (out / "test" / f"{name}-{path.name}").symlink_to(path.resolve())
    counts = {}
    for source, paths in sources.items():
        paths.sort(key=lambda pair: hashlib.sha256(pair[1].name.encode()).hexdigest())
        for name, path in paths[:_VALIDATION]:
            (out / "val" / f"{name}-{path.name}").symlink_to(path)
        turns = times.get(source, 1)
        for name, path in paths[_VALIDATION:]:
            for turn in range(turns):
                (out / "train" / f"{name}-{turn}-{path.name}").symlink_to(path)
        counts[source] = turns * len(paths[_VALIDATION:])
    return counts


def main() -> None:
    """Reads the arguments and links."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folders", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--times", default="", metavar="SOURCE=N,SOURCE=N")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR")
    args = parser.parse_args()
    pairs = (word.partition("=") for word in args.folders)
    folders = {name: pathlib.Path(folder).expanduser() for name, _, folder in pairs}
    words = (word.partition("=") for word in args.times.split(",") if word)
    times = {source: int(number) for source, _, number in words}
    for source, count in mix(folders, times, args.out).items():
        print(f"{source}: {count}")


if __name__ == "__main__":
    main()
