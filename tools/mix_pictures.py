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
import sys
from collections import defaultdict

from gmsrm_jax.data.listing import list_images
from gmsrm_jax.runtime.errors import UserError, status_of
from gmsrm_jax.runtime.files import replacing

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

    Raises:
        UserError: the folder is there, one of `folders` lacks pictures or has two of one name, or
            there is no such source.
    """
    if out.exists():
        raise UserError(f"{out}: is there already; name another --out, or remove it")
    sources: dict[str, list[tuple[str, pathlib.Path]]] = defaultdict(list)
    held = []
    for name, folder in folders.items():
        for path in list_images(folder / "train"):
            sources[path.name.split("_")[0]].append((name, path.resolve()))
        held += [(f"{name}-{path.name}", path.resolve()) for path in list_images(folder / "val")]
    unknown = ", ".join(sorted(times.keys() - sources.keys()))
    if unknown:
        known = ", ".join(sorted(sources))
        raise UserError(f"--times: there is no source {unknown}; use any of: {known}")
    counts = {}
    with replacing(out) as folder:
        for split in ("train", "val", "test"):
            (folder / split).mkdir(parents=True)
        for link, path in held:
            _link(folder / "test" / link, path)
        for source, paths in sources.items():
            paths.sort(key=lambda pair: hashlib.sha256(pair[1].name.encode()).hexdigest())
            for name, path in paths[:_VALIDATION]:
                _link(folder / "val" / f"{name}-{path.name}", path)
            turns = times.get(source, 1)
            for name, path in paths[_VALIDATION:]:
                for turn in range(turns):
                    _link(folder / "train" / f"{name}-{turn}-{path.name}", path)
            counts[source] = turns * len(paths[_VALIDATION:])
    return counts


def _link(link: pathlib.Path, path: pathlib.Path) -> None:
    try:
        link.symlink_to(path)
    except FileExistsError as error:
        raise UserError(
            f"{path}: the name is taken by a picture of another folder; rename one"
        ) from error


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    if not (name and value):
        raise argparse.ArgumentTypeError(f"{word!r}: write NAME=DIR")
    return name, value


def _times(text: str) -> dict[str, int]:
    times = {}
    for word in text.split(","):
        source, _, number = word.partition("=")
        if not (source and number.isascii() and number.isdigit() and int(number)):
            raise argparse.ArgumentTypeError(f"{word!r}: write SOURCE=N, N a number above 0")
        times[source] = int(number)
    return times


def main() -> int:
    """Reads the arguments and links."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folders", nargs="+", type=_pair, metavar="NAME=DIR")
    parser.add_argument("--times", type=_times, default={}, metavar="SOURCE=N,SOURCE=N")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR")
    args = parser.parse_args()
    folders = {name: pathlib.Path(folder).expanduser() for name, folder in args.folders}

    def link() -> None:
        for source, count in mix(folders, args.times, args.out).items():
            print(f"{source}: {count}")

    return status_of("mix_pictures", link)


if __name__ == "__main__":
    sys.exit(main())
