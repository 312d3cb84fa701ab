"""Decodes a whole set of pictures, and says what is in it."""

import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gmsrm_jax.data.decoding import UnreadablePicture, decode_image, read_header
from gmsrm_jax.data.sources import EncodedPictures

_CHUNK = 16  # pictures


@dataclass
class Inspection:
    """What a set of pictures holds.

    Attributes:
        kinds: number of pictures of each kind, such as "JPEG RGB".
        sizes: number of pictures of each size (width, height) [px], upright.
        bad: name and reason of those that cannot be used.
        digests: SHA-256 of each good file, by name.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    bad: dict[str, str] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """Number of pictures that were decoded to the end."""
        return self.sizes.total()


def inspect(
    pictures: EncodedPictures,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Decodes every picture to its end, in parallel.

    Args:
        pictures: those whose headers are bad are counted too.
        threads: number of threads; 0 for one per core.
        progress: called with the number of pictures done and their number.
    """
    result = Inspection(bad=dict(pictures.bad.names))

    def look(indices: Sequence[int]) -> list[tuple[str, str, tuple[int, int], bytes, str]]:
        found = []
        for index in indices:
            name = pictures.name(index)
            try:
                encoded = pictures.encoded(index)
                height, width, _ = decode_image(encoded, pictures.max_pixels).shape
                kind = read_header(io.BytesIO(encoded), pictures.max_pixels).kind
                digest = hashlib.sha256(encoded).digest()
                found.append((name, kind, (width, height), digest, ""))
            except UnreadablePicture as error:
                found.append((name, "", (0, 0), b"", error.reason))
        return found

    chunks = [
        range(start, min(start + _CHUNK, len(pictures)))
        for start in range(0, len(pictures), _CHUNK)
    ]
    done = 0
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for part in pool.map(look, chunks):
            for name, kind, size, digest, reason in part:
                if reason:
                    result.bad[name] = reason
                    continue
                result.kinds[kind] += 1
                result.sizes[size] += 1
                result.digests[name] = digest
            done += len(part)
            progress(done, len(pictures))
    return result


def duplicates(digests: Mapping[str, bytes]) -> list[list[str]]:
    """Returns the groups of names, two and more, whose files hold the same bytes."""
    same: defaultdict[bytes, list[str]] = defaultdict(list)
    for name, digest in digests.items():
        same[digest].append(name)
    return [names for names in same.values() if len(names) > 1]
