"""How a study's pictures are paired, and in which order they are shown."""

import hashlib
import json
from collections import Counter

import pytest
from studies import ANNA, METHODS, SAMPLES, methods_of, save

from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.study.presentation import Presentation, Turn
from gmsrm_jax.study.samples import INPUT, read_samples


def test_pictures_are_paired_by_name_and_not_by_order(folders, tmp_path):
    (folders["LISK"] / "door.png").unlink()
    save(folders["LISK"] / "door.JPG", (9, 9, 9), format="JPEG")
    found = read_samples(methods_of(folders), folders["input"])
    assert [sample.name for sample in found] == list(SAMPLES)
    door = found[0]
    assert door.pictures["LISK"].path == folders["LISK"] / "door.JPG"
    assert door.pictures[INPUT].path == folders["input"] / "door.png"
    assert door.size == (40, 36)
    content = (folders["LISK"] / "door.JPG").read_bytes()
    assert door.pictures["LISK"].sha256 == hashlib.sha256(content).hexdigest()
    assert not any(INPUT in sample.pictures for sample in read_samples(methods_of(folders), None))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f["LISK"] / "wall.png").unlink(), r"LISK=.*no picture named 'wall'"),
        (lambda f: (f["input"] / "gate.png").unlink(), r"--input=.*no picture named 'gate'"),
        (lambda f: save(f["GM-SRM"] / "more.png", (1, 1, 1)), r"LISK=.*no picture named 'more'"),
        (
            lambda f: save(f["GM-SRM"] / "gate.jpg", (1, 1, 1)),
            r"gate.jpg and gate.png have one name",
        ),
        (
            lambda f: save(f["GM-SRM"] / "gate.png", (1, 1, 1), (40, 40)),
            r"gate: 40 x 40 px in GM-SRM",
        ),
        (lambda f: (f["GM-SRM"] / "gate.png").write_bytes(b"no"), r"gate.png: not one of"),
        (lambda f: f.update({"LISK": f["LISK"] / "none"}), r"none: no such folder"),
    ],
)
def test_what_cannot_be_paired_is_refused_by_name(folders, damage, message):
    damage(folders)
    with pytest.raises(UserError, match=message) as caught:
        read_samples(methods_of(folders), folders["input"])
    assert "\n" not in str(caught.value)


def turns(names, again=False):
    return tuple(Turn(name, again) for name in names)


def test_orders_are_functions_of_seed_and_participant_for_ever(presentation):
    # SHA-256 of the JSON of seed, purpose, participant and name, sorted.
    def digest(*parts):
        return hashlib.sha256(json.dumps([0, *parts]).encode()).hexdigest()

    order = sorted(SAMPLES, key=lambda name: digest("order", ANNA, name))
    assert presentation.order(ANNA) == turns(order)
    shown = sorted(METHODS, key=lambda method: digest("shown", ANNA, "door", method))
    assert presentation.shown(ANNA, Turn("door")) == tuple(shown)
    samples = presentation.samples.values()
    assert Presentation(METHODS, samples, 0, 2).order(ANNA) == turns(order[:2])
    twice = Presentation(METHODS, samples, 0, 3, 2)
    assert twice.order(ANNA) == (*turns(order[:3]), *turns(order[:2], again=True))
    anew = sorted(METHODS, key=lambda method: digest("shown", ANNA, "door", method, "again"))
    assert twice.shown(ANNA, Turn("door", again=True)) == tuple(anew)
    assert Presentation(METHODS[::-1], samples, 0).shown(ANNA, Turn("door")) == tuple(shown)
    assert any(
        Presentation(METHODS, samples, seed).order(ANNA) != turns(order) for seed in range(1, 5)
    )


def test_every_method_and_sample_stands_everywhere_equally_often(presentation):
    people = [f"{number:032x}" for number in range(900)]
    first = Counter(presentation.shown(person, Turn("gate"))[0] for person in people)
    assert set(first) == set(METHODS)
    assert all(abs(count - 300) < 60 for count in first.values()), first  # sd 14
    opening = Counter(presentation.order(person)[0].sample for person in people)
    assert all(abs(opening[sample] - 225) < 60 for sample in SAMPLES), opening
    both = Counter(
        presentation.shown(person, Turn("gate"))[0] == presentation.shown(person, Turn("door"))[0]
        for person in people
    )
    assert abs(both[True] - 300) < 60, both  # samples of a participant are independent


@pytest.mark.parametrize(
    ("methods", "count", "repeats"),
    [(METHODS[:1], 1, 0), (METHODS, 0, 0), (METHODS, 5, 0), (METHODS, 2, 3)],
)
def test_what_no_page_can_show_is_a_bug(presentation, methods, count, repeats):
    with pytest.raises(ValueError):
        Presentation(methods, presentation.samples.values(), 0, count, repeats)
