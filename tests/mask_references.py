"""Masks drawn another way: one at a time with Pillow and NumPy, from the text of their ranges.

`REFERENCES[name](generator)` draws a mask of 256 px, uint8 [256, 256], 1 = hole.
"""

import functools
import math

import numpy as np
from PIL import Image, ImageDraw


def rectangles_reference(size, generator):
    """PIC's regular mask, as its text gives it."""
    mask = np.zeros((size, size), np.uint8)
    count = generator.randint(1, 5)
    for _ in range(count):
        row = generator.randint(0, math.floor(size - size / (count + 1)))
        column = generator.randint(0, math.floor(size - size / (count + 1)))
        height = generator.randint(math.floor(size / (count + 7)), size - row)
        width = generator.randint(math.floor(size / (count + 7)), size - column)
        mask[row : row + height, column : column + width] = 1
    return mask


def disc(draw, centre, radius):
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)


def stroke(draw, points, thickness):
    """Strokes with round joints, as wide as OpenCV's: 2 * half + 1 pixels."""
    half = math.ceil(thickness / 2)
    draw.line(points, fill=1, width=2 * half + 1)
    for vertex in points:
        disc(draw, vertex, half)


def pic_irregular_reference(generator):
    """PIC's irregular mask at 256 px."""
    picture = Image.new("L", (256, 256))
    draw = ImageDraw.Draw(picture)

    def point():
        return generator.randint(1, 256), generator.randint(1, 256)

    for _ in range(generator.randint(16, 64)):
        kind = generator.random()
        if kind < 0.6:
            stroke(draw, [point(), point()], generator.randint(4, 20))
        elif kind < 0.8:
            disc(draw, point(), generator.randint(4, 20))
        else:
            (x, y), (a, b) = point(), point()
            turn, *ends = (generator.randint(3, 180) for _ in range(3))
            turn, low, high = map(math.radians, (turn, min(ends), max(ends)))
            outline = []
            for angle in np.linspace(low, high, 1 + max(1, round((high - low) / 0.05))):
                u, v = a * math.cos(angle), b * math.sin(angle)
                outline.append(
                    (
                        x + u * math.cos(turn) - v * math.sin(turn),
                        y + u * math.sin(turn) + v * math.cos(turn),
                    )
                )
            stroke(draw, outline, generator.randint(4, 20))
    return np.asarray(picture)


def within(value):
    return max(0, min(256, math.floor(value)))


def brush_reference(generator, count, vertices, width):
    """`count` strokes of DeepFillV2's brush at 256 px."""
    picture = Image.new("L", (256, 256))
    draw = ImageDraw.Draw(picture)
    step = math.hypot(256, 256) / 8
    for _ in range(count):
        low = 2 * math.pi / 5 - generator.uniform(0, 2 * math.pi / 15)
        high = 2 * math.pi / 5 + generator.uniform(0, 2 * math.pi / 15)
        points = [(generator.randint(0, 255), generator.randint(0, 255))]
        for index in range(generator.randint(*vertices)):
            angle = generator.uniform(low, high)
            if index % 2 == 0:
                angle = 2 * math.pi - angle
            length = min(max(generator.gauss(step, step // 2), 0), 2 * step)
            x, y = points[-1]
            points.append(
                (within(x + length * math.cos(angle)), within(y + length * math.sin(angle)))
            )
        thickness = generator.randint(*width)
        draw.line(points, fill=1, width=thickness)
        for vertex in points:
            disc(draw, vertex, thickness // 2)
    return np.array(picture)


def free_form_reference(generator):
    mask = brush_reference(generator, generator.randint(1, 3), (4, 11), (12, 39))
    top, left = generator.randint(0, 127), generator.randint(0, 127)
    rows, columns = generator.randint(0, 16), generator.randint(0, 16)
    mask[top + rows : top + 128 - rows, left + columns : left + 128 - columns] = 1
    return mask


def mat_reference(generator):
    while True:
        mask = brush_reference(generator, generator.randint(0, 7), (4, 17), (12, 47))
        mask = mask[:: generator.choice((-1, 1)), :: generator.choice((-1, 1))]
        sides = [127] * generator.randint(0, 3) + [255] * generator.randint(0, 1)
        for longest in sides:
            spans = []
            for _ in range(2):
                side = generator.randint(0, longest)
                start = generator.randint(-(side // 2), 255 - side + side // 2)
                spans.append(slice(max(start, 0), max(start + side, 0)))
            mask[tuple(spans)] = 1
        if 0 < mask.mean() < 1:
            return mask


def chains_reference(generator, number, length, width):
    """LaMa's chains of segments at 256 px."""
    picture = Image.new("L", (256, 256))
    draw = ImageDraw.Draw(picture)
    for chain in range(generator.randint(*number)):
        x, y = generator.randint(0, 255), generator.randint(0, 255)
        for _ in range(generator.randint(1, 5)):
            angle = 0.01 + generator.randint(0, 3)
            if chain % 2 == 0:
                angle = 2 * math.pi - angle
            step = generator.randint(*length)
            end = within(x + step * math.sin(angle)), within(y + step * math.cos(angle))
            stroke(draw, [(x, y), end], generator.randint(*width))
            x, y = end
    return np.asarray(picture)


def boxes_reference(generator, number, sides, margin):
    """LaMa's boxes at 256 px."""
    mask = np.zeros((256, 256), np.uint8)
    for _ in range(generator.randint(*number)):
        spans = []
        for _ in range(2):
            side = generator.randint(*sides)
            start = generator.randint(margin, 256 - margin - side)
            spans.append(slice(start, start + side))
        mask[tuple(spans)] = 1
    return mask


def lama_reference(kind, generator):
    thick = (1, 6), (10, 209), (5, 104)
    chains, rectangles, share = {
        "lama": (thick, ((1, 4), (30, 150), 10), 0.5),
        "lama_thin": (((4, 51), (10, 49), (5, 14)), None, 1.0),
        "lama_medium": (((4, 6), (10, 109), (5, 54)), ((1, 5), (10, 50), 0), 1 / 1.3),
        "lama_thick": (thick, ((1, 3), (30, 150), 10), 1 / 1.3),
    }[kind]
    while True:
        if generator.random() < share:
            mask = chains_reference(generator, *chains)
        else:
            mask = boxes_reference(generator, *rectangles)
        if kind == "lama" or mask.mean() <= 0.5:
            return mask


REFERENCES = {
    "pic_regular": functools.partial(rectangles_reference, 256),
    "pic_irregular": pic_irregular_reference,
    "free_form": free_form_reference,
    "mat": mat_reference,
    **{
        name: functools.partial(lama_reference, name)
        for name in ("lama", "lama_thin", "lama_medium", "lama_thick")
    },
}
