import hashlib
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.commands.config_files import read_config_file
from gmsrm_jax.config.fields import base_config
from gmsrm_jax.data.splits import open_test, split_pictures
from gmsrm_jax.runtime.errors import UserError

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


@pytest.fixture
def config(tmp_path):
    config = base_config()
    config.image_size = 32
    config.data.train = str(tmp_path / "set")
    config.data.validation_bounds = (2, 2)
    return config


def make(tmp_path, names):
    for name in names:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(path)


def names_of(split, indices):
    return {split.pictures.name(int(index)) for index in indices}


def digest(name):
    return hashlib.sha256(name.encode()).hexdigest()


def test_sub_folders_are_the_splits(tmp_path, config):
    train = {f"train/{i}.png" for i in range(5)}
    val = {f"val/{i}.png" for i in range(3)}
    test = {f"test/{i}.png" for i in range(4)}
    make(tmp_path, train | val | test | {"more/0.png", "0.png"})
    split = split_pictures(config)
    assert names_of(split, split.training) == train
    assert names_of(split, split.validation) < val
    assert len(split.validation) == 2
    assert "2 pictures outside of them not used" in split.description
    pictures = open_test(config)
    assert {pictures.name(i) for i in range(len(pictures))} == test
    assert pictures.image(0).shape == (40, 40, 3)


def test_without_a_test_folder_val_is_the_test_set(tmp_path, config):
    make(tmp_path, [f"train/{i}.png" for i in range(6)] + [f"Val/{i}.png" for i in range(3)])
    split = split_pictures(config)
    assert len(split.training) == 4
    assert len(split.validation) == 2
    assert all(name.startswith("train/") for name in names_of(split, split.validation))
    assert len(open_test(config)) == 3
    config.data.test = str(tmp_path)  # named, so the sub-folder is for validation
    split = split_pictures(config)
    assert all(name.startswith("Val/") for name in names_of(split, split.validation))
    assert len(split.training) == 6
    config.data.test = str(tmp_path / "set" / "Val")  # nothing is chosen by the test set
    split = split_pictures(config)
    used = names_of(split, split.training) | names_of(split, split.validation)
    assert used == {f"train/{i}.png" for i in range(6)}


def test_hash_keeps_every_picture_where_it_was(tmp_path, config):
    names = [f"a/{i}.png" for i in range(150)]
    make(tmp_path, names)
    config.data.test_fraction = 0.2
    before = {open_test(config).name(i) for i in range(len(open_test(config)))}
    expected = {n for n in names if int(digest(n)[:16], 16) >= 0.8 * 2**64}
    assert before == expected
    assert 15 <= len(before) <= 45
    split = split_pictures(config)
    used = names_of(split, split.training) | names_of(split, split.validation)
    assert used == set(names) - expected
    assert names_of(split, split.validation) == set(sorted(used, key=digest)[:2])
    assert "20 %, by a hash" in split.description

    make(tmp_path, [f"b/{i}.png" for i in range(20)])
    after = {open_test(config).name(i) for i in range(len(open_test(config)))}
    assert {name for name in after if name.startswith("a/")} == before

    config.data.test = ""
    config.data.test_fraction = 0.0
    with pytest.raises(UserError, match=r"no test pictures.*test_fraction"):
        open_test(config)


def test_folders_can_be_demanded_or_refused(tmp_path, config):
    make(tmp_path, [f"train/{i}.png" for i in range(9)] + [f"car/{i}.png" for i in range(9)])
    assert len(split_pictures(config).training) == 7
    config.data.split = "hash"
    config.data.test_fraction = 0.0
    assert len(split_pictures(config).training) == 16
    config.data.split = "folders"
    config.data.train = str(tmp_path / "set" / "car")
    with pytest.raises(UserError, match="no picture is in a sub-folder `train`"):
        split_pictures(config)


@pytest.mark.parametrize("linked", [False, True])
def test_a_test_folder_within_the_training_folder_is_for_the_test_alone(tmp_path, config, linked):
    make(tmp_path, [f"{i}.png" for i in range(20)] + [f"tests/{i}.png" for i in range(5)])
    test = tmp_path / "set" / "held out"
    if linked:
        make(tmp_path, [f"../elsewhere/{i}.png" for i in range(7)])
        test.symlink_to(tmp_path / "elsewhere")
    else:
        make(tmp_path, [f"held out/{i}.png" for i in range(7)])
    config.data.test = str(test)
    split = split_pictures(config)
    assert len(split.training) == 23
    used = names_of(split, split.training) | names_of(split, split.validation)
    assert not any(name.startswith("held out/") for name in used)
    assert "7 pictures of data.test left to the test" in split.description
    assert len(open_test(config)) == 7


def test_a_lone_train_folder_has_no_test(tmp_path, config):
    make(tmp_path, [f"train/{i}.png" for i in range(9)])
    with pytest.raises(UserError, match=r"sub-folder `test`.*test_fraction=0"):
        open_test(config)


def test_too_few_pictures(tmp_path, config):
    make(tmp_path, ["0.png", "1.png"])
    config.data.test_fraction = 0.0
    with pytest.raises(UserError, match=r"2 pictures are too few: 2 for .*; add pictures$"):
        split_pictures(config)


@pytest.mark.parametrize(
    ("count", "fields", "cure"),
    [
        (3, {}, "(data.test, `gmsrm data --test`)"),
        (9, {}, "lower data.validation_bounds and data.test_bounds"),
        (60, {"test_fraction": 0.9}, " and data.test_fraction"),
        (60, {"validation_bounds": (50, 50)}, "lower data.validation_bounds and data.test_bounds"),
        (60, {"validation_fraction": 1.0}, "lower data.validation_fraction and data.test_bounds"),
    ],
)
def test_the_fields_that_hold_too_much_out_are_named(tmp_path, config, count, fields, cure):
    """Those that are named, lowered, let the folder be used."""
    for name in ("validation_bounds", "test_bounds"):
        config.data[name] = base_config().data[name]
    config.data.update(fields)
    make(tmp_path, [f"{i}.png" for i in range(count)])
    with pytest.raises(UserError, match=re.escape(cure)) as caught:
        split_pictures(config)
    message = str(caught.value)
    shares = config.data.validation_fraction + config.data.test_fraction
    assert ("add pictures" in message) == (shares <= 0.5)
    named = re.findall(r"data\.(\w+_(?:bounds|fraction))", message)
    assert bool(named) == (count > 5)
    for name in named:
        config.data[name] = (2, 2) if name.endswith("bounds") else 0.1
    if named:
        assert len(split_pictures(config).training)
        assert len(open_test(config))


def test_no_test_pictures_by_their_bounds(tmp_path, config):
    make(tmp_path, [f"{i}.png" for i in range(9)])
    config.data.test_bounds = (0, 0)
    with pytest.raises(UserError, match=r"or raise data\.test_bounds$"):
        open_test(config)


@pytest.mark.parametrize("count", [16, 40, 300])
def test_a_small_folder_keeps_a_share_that_can_be_judged_on(tmp_path, config, count):
    config.data.validation_bounds = base_config().data.validation_bounds
    names = sorted((f"{i}.png" for i in range(count)), key=digest)
    make(tmp_path, names)
    split, test = split_pictures(config), open_test(config)
    hashes = [int(digest(name)[:16], 16) / 2**64 for name in names]
    first, last = sum(h < 0.1 for h in hashes), sum(h >= 0.95 for h in hashes)
    assert names_of(split, split.validation) == set(names[: max(first, 4)])
    assert {test.name(i) for i in range(len(test))} == set(names[-max(last, 4) :])
    assert len(split.training) == count - len(split.validation) - len(test)


def test_pictures_that_are_added_hold_none_out_that_was_trained_on(tmp_path, config):
    config.data.validation_bounds, config.data.test_bounds = (4, 6), (4, 7)
    config.data.test_fraction = 0.1
    trained = set()
    for count in (16, 24, 50, 90, 140):
        make(tmp_path, [f"{i}.png" for i in range(count)])
        split, test = split_pictures(config), open_test(config)
        held_out = names_of(split, split.validation) | {test.name(i) for i in range(len(test))}
        assert len(held_out) == len(split.validation) + len(test)
        assert trained.isdisjoint(held_out)
        trained |= names_of(split, split.training)
    assert (len(split.validation), len(test)) == (6, 7)


def test_configs_for_a_folder_divide_it_alike(tmp_path):
    make(tmp_path, [f"{i}.png" for i in range(40)])
    found = []
    for name in ("folder", "finetune"):
        config = read_config_file(str(CONFIGS / f"{name}.py"))
        config.data.train = str(tmp_path / "set")
        split = split_pictures(config)
        found.append((len(split.training), len(split.validation), len(open_test(config))))
    assert found == [(32, 4, 4)] * 2


def test_another_set_of_pictures_has_another_fingerprint(tmp_path, config):
    make(tmp_path, [f"{i}.png" for i in range(60)])
    prints = {split_pictures(config).fingerprint}
    config.data.test_fraction = 0.3
    prints.add(split_pictures(config).fingerprint)
    make(tmp_path, ["new.png"])
    prints.add(split_pictures(config).fingerprint)
    assert len(prints) == 3


def test_validation_leaves_out_what_cannot_be_decoded(tmp_path, config):
    make(tmp_path, [f"{i}.png" for i in range(20)])
    config.data.test_fraction = 0.0
    config.data.max_bad_share = 0.1
    split = split_pictures(config)
    path = tmp_path / "set" / split.pictures.name(int(split.validation[0]))
    content = bytearray(path.read_bytes())
    content[45:50] = b"\0\0\0\0\0"
    path.write_bytes(content)
    images = split.validation_images(config)
    assert images.shape == (1, 32, 32, 3)
    assert list(split.pictures.bad.names) == [path.name]
    assert images.dtype == np.uint8
