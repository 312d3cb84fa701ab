"""Ways to damage picture files, and files that were never any.

All is drawn from the generator that is given: the same seed makes the same bytes again.
"""

import functools
import struct
import zlib
from collections.abc import Callable

import numpy as np
from good_pictures import (
    PNG_SIGNATURE,
    READ,
    PictureFile,
    chunk,
    exif_block,
    good_files,
    png_file,
    profile,
)

_ABSURD = (0, 1, 2, 3, 7, 17, 255, 256, 3000, 32767, 46341, 65535, 65536, 2**31 - 1, 2**31)
_ABSURD_NUMBERS = (*_ABSURD, 2**32 - 1)
_OTHER_FILES = (
    b"",
    b"\0",
    bytes(4096),
    b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(60) + b"PK\x05\x06" + bytes(18),
    b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n(x) run\n",
    b"\x1f\x8b\x08\0" + bytes(30),
    b"\x7fELF\x02\x01\x01" + bytes(50),
    b"P6 99999999 99999999 255\n",
    b"GIF89a\xff\xff\xff\xff\0\0\0",
    PNG_SIGNATURE,
    b"\xff\xd8\xff",
    b"BM",
    b"II*\0",
    b"MM\0*\xff\xff\xff\xff",
    b"RIFF\xff\xff\xff\xffWEBPVP8X",
)

Generator = np.random.Generator


def mutated(rng: Generator, data: bytes) -> bytes:
    """Damages a file in one to three ways."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        data = _MUTATORS[rng.integers(len(_MUTATORS))](rng, data)
    return data


def any_file(rng: Generator) -> PictureFile:
    """One of the good files; more often of a format that is read."""
    files = good_files()
    chosen = files[rng.integers(len(files))]
    return chosen if chosen.format in READ or rng.random() < 0.3 else any_file(rng)


def _truncated(rng: Generator, data: bytes) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def _flipped(rng: Generator, data: bytes) -> bytes:
    return _with_noise(rng, data, 0, len(data))


def _flipped_header(rng: Generator, data: bytes) -> bytes:
    return _with_noise(rng, data, 0, min(len(data), 96))


def _with_noise(rng: Generator, data: bytes, start: int, stop: int) -> bytes:
    """Flips 1 to 32 bits, or replaces as many bytes."""
    changed = np.frombuffer(data, np.uint8).copy()
    if start >= stop:
        return data
    count = 2 ** rng.integers(0, 6)
    places = rng.integers(start, stop, count)
    if rng.random() < 0.5:
        changed[places] ^= (1 << rng.integers(0, 8, count)).astype(np.uint8)
    else:
        changed[places] = rng.choice([0, 1, 127, 128, 254, 255, rng.integers(256)], count)
    return changed.tobytes()


def _shifted(rng: Generator, data: bytes) -> bytes:
    """Takes a run of bytes out, or puts it in a second time somewhere."""
    start, stop, place = sorted(rng.integers(0, len(data) + 1, 3))
    if rng.random() < 0.5:
        return data[:start] + data[stop:]
    return data[:place] + data[start : min(stop, start + 4096)] + data[place:]


def _spliced(rng: Generator, data: bytes) -> bytes:
    """The beginning of one file with the end of another."""
    other = any_file(rng).data
    return data[: rng.integers(len(data) + 1)] + other[rng.integers(len(other) + 1) :]


def _rearranged(rng: Generator, data: bytes) -> bytes:
    """Leaves out, doubles or moves a chunk, or damages one and corrects its checksum."""
    pieces = _pieces(data)
    here, there = rng.integers(0, len(pieces), 2)
    way = rng.integers(4)
    if way == 0:
        del pieces[here]
    elif way == 1:
        pieces.insert(there, pieces[here])
    elif way == 2:
        pieces[here], pieces[there] = pieces[there], pieces[here]
    else:
        pieces[here] = _with_noise(rng, pieces[here], min(8, len(pieces[here])), len(pieces[here]))
    return _with_checksums(b"".join(pieces))


def _absurd_field(rng: Generator, data: bytes) -> bytes:
    """Puts an absurd number into a field of the header, where the file has one."""
    fields = _fields(rng, data)
    place, form = fields[rng.integers(len(fields))]
    size = struct.calcsize(form)
    if place + size > len(data):
        return data
    absurd = _ABSURD_NUMBERS[rng.integers(len(_ABSURD_NUMBERS))] % 256**size
    return _with_checksums(data[:place] + struct.pack(form, absurd) + data[place + size :])


def _bad_metadata(rng: Generator, data: bytes) -> bytes:
    """Adds damaged or needlessly deep metadata."""
    exif = _with_noise(rng, exif_block(), 0, len(exif_block()))
    loop = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + _loop(0x8769) + _loop(0x8825) + b"\x08\0\0\0"
    icc = _with_noise(rng, profile("sRGB"), 0, len(profile("sRGB")))
    noise = rng.bytes(rng.integers(200))
    block = (exif, loop, noise, exif[: rng.integers(len(exif))])[rng.integers(4)]
    if data.startswith(PNG_SIGNATURE):
        packed = (zlib.compress(icc, 1), _packed_zeros(), noise)[rng.integers(3)]
        kind, content = (
            (b"eXIf", block.removeprefix(b"Exif\0\0")),
            (b"iCCP", b"x\0\0" + packed),
            (b"zTXt", b"Raw profile type exif\0\0" + packed),
            (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
            (b"tEXt", b"Raw profile type exif\0\nexif\n999\n" + noise.hex().encode()),
            (b"tRNS", noise),
            (b"PLTE", noise),
            (b"acTL", noise[:8]),
            (b"sBIT", noise[:4]),
            (b"pHYs", noise[:9]),
        )[rng.integers(10)]
        place = 33 if rng.random() < 0.8 else len(data) - 12
        return data[:place] + chunk(kind, content) + data[place:]
    if data.startswith(b"\xff\xd8"):
        marker, content = (
            (0xE1, block),
            (0xE1, b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>6<" + noise),
            (0xE2, b"ICC_PROFILE\0\1\1" + icc),
            (0xE2, b"ICC_PROFILE\0\xff\xff" + noise),
            (0xE2, b"MPF\0" + block[6:]),
            (0xED, b"Photoshop 3.0\x008BIM\x03\xed" + noise),
            (0xEE, b"Adobe\0d\0\0\0\0\2"),
            (0xDD, noise[:2]),
        )[rng.integers(8)]
        segment = struct.pack(">BBH", 255, marker, len(content) + 2) + content
        return data[:2] + segment + data[2:]
    if data.startswith(b"RIFF"):
        kind = (b"EXIF", b"ICCP", b"XMP ", b"ANIM", b"ALPH")[rng.integers(5)]
        piece = kind + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)
        place = 30 if data[12:16] == b"VP8X" else len(data)
        data = data[:place] + piece + data[place:]
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    return data + block


def _replaced(rng: Generator, _: bytes) -> bytes:
    """Something else altogether."""
    number = rng.integers(len(_OTHER_FILES) + 3)
    if number < len(_OTHER_FILES):
        return _OTHER_FILES[number]
    return (rng.bytes(rng.integers(2000)), _png_bomb(), _hugepng_file(rng))[
        number - len(_OTHER_FILES)
    ]


_MUTATORS: tuple[Callable[[Generator, bytes], bytes], ...] = (
    *(_truncated, _flipped, _flipped_header, _shifted, _spliced, _rearranged),
    *(_absurd_field, _absurd_field, _absurd_field, _bad_metadata, _bad_metadata, _replaced),
)


@functools.cache
def _packed_zeros() -> bytes:
    return zlib.compress(bytes(5 << 20), 1)


@functools.cache
def _png_bomb() -> bytes:
    """Black, whole and with right checksums: 81 million pixels in a few kilobytes."""
    return png_file(9000, 9000, 1, 0, zlib.compress(bytes(9000 * (1 + 9000 // 8)), 1))


def _hugepng_file(rng: Generator) -> bytes:
    width, height = (2 ** int(power) - 1 for power in rng.integers(1, 32, 2))
    return png_file(width, height, 8, 2, zlib.compress(bytes(1000)))


def _loop(tag: int) -> bytes:
    """An entry that names its own directory as the one below it."""
    return struct.pack("<HHII", tag, 4, 1, 8)


def _pieces(data: bytes) -> list[bytes]:
    """Cuts a file into its chunks or segments; files that have none into parts of equal size."""
    cuts = [0]
    if data.startswith(PNG_SIGNATURE):
        place = 8
        while place + 12 <= len(data):
            cuts.append(place)
            place += 12 + struct.unpack_from(">I", data, place)[0]
    elif data.startswith(b"\xff\xd8"):
        place = 2
        while place + 4 <= len(data) and data[place] == 255:
            cuts.append(place)
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]
    elif data.startswith(b"RIFF"):
        place = 12
        while place + 8 <= len(data):
            cuts.append(place)
            length = struct.unpack_from("<I", data, place + 4)[0]
            place += 8 + length + length % 2
    else:
        cuts = list(range(0, max(1, len(data)), max(1, len(data) // 12)))
    return [data[start:stop] for start, stop in zip(cuts, [*cuts[1:], len(data)], strict=True)]


def _with_checksums(data: bytes) -> bytes:
    """Corrects the checksums of a PNG file, so that its content is looked at."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    pieces = _pieces(data)
    return pieces[0] + b"".join(
        piece[:-4] + struct.pack(">I", zlib.crc32(piece[4:-4])) for piece in pieces[1:]
    )


def _fields(rng: Generator, data: bytes) -> list[tuple[int, str]]:
    """Where numbers stand in the header, and as what."""
    if data.startswith(PNG_SIGNATURE):
        return [(16, ">I"), (20, ">I"), *((place, ">B") for place in range(24, 29))]
    if data.startswith(b"\xff\xd8"):
        place = 0
        for piece in _pieces(data):
            if piece[:1] == b"\xff" and piece[1:2] in b"\xc0\xc1\xc2":
                return [(place + 5, ">H"), (place + 7, ">H"), (place + 4, ">B"), (place + 9, ">B")]
            place += len(piece)
    if data.startswith(b"BM"):
        return [(2, "<I"), (26, "<H"), (28, "<H"), *((place, "<I") for place in range(10, 54, 4))]
    if data.startswith(b"RIFF"):
        return [(4, "<I"), (16, "<I"), (20, "<B"), (24, "<H"), (26, "<H"), (21, "<I")]
    if data[:2] in (b"II", b"MM") and len(data) > 8:
        order = "<" if data[:2] == b"II" else ">"
        first = struct.unpack_from(order + "I", data, 4)[0]
        entries = [first + 2 + 12 * number for number in range(20)]
        parts = [(place + 4, f"{order}I") for place in entries]
        parts += [(place + 8, f"{order}I") for place in entries]
        parts += [(place + 8, f"{order}H") for place in entries]
        parts += [(place + 2, f"{order}H") for place in entries]
        return [(4, f"{order}I"), (first, f"{order}H"), *parts]
    return [(int(place), "<I") for place in rng.integers(0, 64, 4)]
