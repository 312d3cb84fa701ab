"""Which kinds of TIFF file are not read: their names in words."""

import struct
from typing import IO

from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_TAGS = ExifTags.Base
_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0")
_LARGE_BIG_ENDIAN = b"MM\0+"  # Pillow takes its offsets for short ones
_KINDS = {1: "whole numbers", 2: "signed numbers", 3: "floats", 5: "complex", 6: "complex floats"}


def kind_of(stream: IO[bytes]) -> str:
    """Says in words which kind of TIFF file it is whose pixels cannot be read; "" for no TIFF."""
    stream.seek(0)
    head = stream.read(16)
    if head[:4] == _LARGE_BIG_ENDIAN:
        return "offsets of 64 bits in big-endian order"
    if head[:4] not in _SIGNATURES:
        return ""
    try:
        tags = ImageFileDirectory_v2(head if b"+" in head[:4] else head[:8])
        stream.seek(tags.next)
        tags.load(stream)
        if _TAGS.ImageWidth not in tags or not {_TAGS.StripOffsets, _TAGS.TileOffsets} & set(tags):
            return ""
        bits, kinds = tags.get(_TAGS.BitsPerSample, (1,)), tags.get(_TAGS.SampleFormat, (1,))
        samples, compression = tags.get(_TAGS.SamplesPerPixel, 1), tags.get(_TAGS.Compression, 1)
        planes = "" if tags.get(_TAGS.PlanarConfiguration, 1) == 1 else " in planes"
        first = (samples, compression, bits[0], kinds[0])
    except (OSError, ValueError, LookupError, TypeError, SyntaxError, struct.error):
        return ""
    if not all(isinstance(value, int) for value in first):
        return ""  # of another type than the format has: nothing to tell in words
    kind = _KINDS.get(kinds[0], f"numbers of format {kinds[0]}")
    return f"{samples} x {bits[0]} bits of {kind}{planes}, compression {compression}"
