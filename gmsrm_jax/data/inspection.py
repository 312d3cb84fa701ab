"""Decodes a whole set of pictures, and says what is in it."""

import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from gmsrm_jax.data.decoding import UnreadablePicture, decode_image, read_header
from gmsrm_jax.data.headers import in_threads
from gmsrm_jax.data.sources import EncodedPictures
from gmsrm_jax.runtime.log import shown

_AT_ONCE = 16  # pictures


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


def inspect(pictures: EncodedPictures, threads: int = 0) -> Inspection:
    """Decodes every picture to its end, in parallel, and says how far it is.

    Args:
        pictures: those whose headers are bad are counted too.
        threads: number of threads; 0 for one per core.
    """
    result = Inspection(bad=dict(pictures.bad.names))

    def look(index: int) -> tuple[str, tuple[int, int], bytes] | str:
        try:
            encoded = pictures.encoded(index)
            height, width, _ = decode_image(encoded, pictures.max_pixels).shape
            kind = read_header(io.BytesIO(encoded), pictures.max_pixels).kind
        except UnreadablePicture as error:
            return error.reason
        return kind, (width, height), hashlib.sha256(encoded).digest()

    found = in_threads(look, len(pictures), threads or os.cpu_count(), _AT_ONCE)
    label = f"decoding {pictures.location}"
    for index, seen in enumerate(shown(found, label, len(pictures), 0)):
        name = pictures.name(index)
        if isinstance(seen, str):
            result.bad[name] = seen
        else:
            kind, size, result.digests[name] = seen
            result.kinds[kind] += 1
            result.sizes[size] += 1
    return result


def duplicates(digests: Mapping[str, bytes]) -> list[list[str]]:
    """Returns the groups of names, two and more, whose files hold the same bytes."""
    same: defaultdict[bytes, list[str]] = defaultdict(list)
    for name, digest in digests.items():
        same[digest].append(name)
    return [names for names in same.values() if len(names) > 1]
