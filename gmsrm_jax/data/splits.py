"""Divides a set of pictures into training, validation and test, the same way in every run.

Without a test set of its own, a set is divided by the sub-folders train, val and test if it has a
`train`, by the splits that a TFDS set comes with, and otherwise by a hash of each name. Pictures of
a test folder within the training folder are for the test alone.

By hash means: the names in the order of their SHA-256; the test has the last ones, validation the
first ones, each as many as lie in its share of all hashes, and never fewer or more than its bounds.
So no picture that was trained on is ever held out because others were added.
"""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.assets import resolve_path
from gmsrm_jax.data.decoding import UnreadablePicture, resize_for_test
from gmsrm_jax.data.sources import TFDS, EncodedPictures, Part, Pictures, open_pictures
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError

_VALIDATION_FOLDERS = ("val", "validation", "valid")
_BY_FOLDER = "sub-folders "  # how a rule by folders begins
_HASHES = 2**64
_FEWEST = 2  # pictures of a validation


@dataclass(frozen=True)
class Split:
    """The pictures of a training.

    Attributes:
        pictures: all of them, those of a test set among them.
        training: indices of the training pictures, ascending.
        validation: indices of those kept for validation, ascending.
        rule: how the pictures were divided, for people.
        origin: where the validation pictures come from, for people.
    """

    pictures: Pictures
    training: np.ndarray
    validation: np.ndarray
    rule: str
    origin: str

    @property
    def fingerprint(self) -> str:
        """Number of pictures used and SHA-256 of their names: other ones, another training."""
        digest = hashlib.sha256()
        used = np.sort(np.concatenate([self.training, self.validation]))
        for index in used:
            digest.update(os.fsencode(self.pictures.name(int(index))) + b"\n")
        return f"{len(used)}, names {digest.hexdigest()}"

    @property
    def description(self) -> str:
        """One line: what was found where, how it is divided, and what was left out."""
        line = (
            f"{self.pictures.location}: {count_of(len(self.pictures), 'picture')}, "
            f"{len(self.training)} for training, {len(self.validation)} held out for validation"
        )
        if self.rule:
            line += f"; {self.rule}"
        if isinstance(self.pictures, EncodedPictures) and self.pictures.bad.names:
            line += f"; {len(self.pictures.bad.names)} left out"
        return line

    def validation_images(self, config: ConfigDict) -> np.ndarray:
        """Returns the validation pictures by the test rule, uint8 [k, S, S, 3].

        Those that cannot be decoded are left out, so k can be less than len(validation).
        """
        images = []
        for index in self.validation:
            try:
                picture = self.pictures.image(int(index))
            except UnreadablePicture as error:
                if not isinstance(self.pictures, EncodedPictures):
                    raise
                self.pictures.bad.add(self.pictures.name(int(index)), error.reason)
                continue
            size, data = config.image_size, config.data
            images.append(resize_for_test(picture, size, data.shorter_side, data.test_resize))
        if not images:
            raise UserError(f"{self.pictures.location}: no validation picture can be decoded")
        return np.stack(images)


def split_pictures(config: ConfigDict) -> Split:
    """Opens config.data.train and divides it.

    Validation pictures are those of the sub-folder `val`, if that is not the test set, or else a
    share of the training pictures, by hash.

    Raises:
        UserError: too few pictures: more would be held out than trained on.
    """
    pictures, data = open_pictures(config.data.train, config.data), config.data
    parts, rule = _parts(pictures, config)
    there = len(parts["validation"])
    source = parts["validation" if there else "train"].tolist()
    order = sorted(source, key=lambda index: _digest(pictures.name(index)))
    share = (data.validation_fraction, data.validation_bounds)
    if there:
        count = min(there, share[1][1])
        origin = f"{count} of the {there} pictures that are there for it, at most {share[1][1]}"
    else:
        below = round(share[0] * _HASHES)
        count = _number(sum(_hash(pictures.name(index)) < below for index in source), *share)
        origin = f"of the training pictures, {_in_words(*share)}"
    training = parts["train"].tolist() if there else order[count:]
    tested = 0 if rule.startswith(_BY_FOLDER) else len(parts["test"])
    if not there and len(training) < max(count + tested, 1):
        held_out = {"validation": count, "test": tested}
        all_of_them = len(source) + tested
        few = f"{count_of(all_of_them, 'picture')} {'is' if all_of_them == 1 else 'are'} too few"
        raise UserError(
            f"{pictures.location}: {few}: {count} for "
            f"validation and {tested} for the test leave {len(training)} to train on; "
            f"{_cures(data, all_of_them, held_out)}"
        )
    return Split(pictures, _ascending(training), _ascending(order[:count]), rule, origin)


def has_test_pictures(config: ConfigDict) -> bool:
    """Whether `open_test` has a rule to find test pictures by; opens no pictures."""
    data = config.data
    return bool(data.test or data.test_fraction > 0.0 or _own_test_split(config))


def open_test(config: ConfigDict) -> Pictures:
    """Opens config.data.test, or the test part of config.data.train.

    Raises:
        UserError: there are no test pictures.
    """
    data = config.data
    if data.test:
        return open_pictures(data.test, data, "test")
    own = _own_test_split(config)
    if own:
        return open_pictures(data.train, data, own)
    pictures = open_pictures(data.train, data)
    parts, rule = _parts(pictures, config)
    if not len(parts["test"]):
        cure = f"or raise data.test_{'bounds' if data.test_fraction else 'fraction'}"
        if rule.startswith(_BY_FOLDER):
            cure = "make a sub-folder `test`, or train without a test (data.test_fraction=0)"
        raise UserError(
            f"{pictures.location}: no test pictures ({rule or 'all are for training'}); name a "
            f"folder of them (data.test, `gmsrm data --test`), {cure}"
        )
    return Part(pictures, parts["test"])


def _own_test_split(config: ConfigDict) -> str:
    """Returns the TFDS split that is the test set of a spec without a split, "" if none is."""
    spec = config.data.train
    if not spec.startswith(TFDS) or "#" in spec:
        return ""
    from gmsrm_jax.data.tfds_pictures import split_names

    names = split_names(spec, config.data.tfds_dir)
    return next((split for split in ("test", "validation") if split in names), "")


def _parts(pictures: Pictures, config: ConfigDict) -> tuple[dict[str, np.ndarray], str]:
    """Returns indices of train, validation (none: to be held out of train) and test, and a rule."""
    names = [pictures.name(index) for index in range(len(pictures))]
    roles, rule = _roles(names, pictures.location, config)
    inside = _test_folder(config)
    if inside:
        tested = [name.startswith(inside) for name in names]
        roles = ["" if test else role for test, role in zip(tested, roles, strict=True)]
        rule += f"{', ' if rule else ''}{sum(tested)} pictures of data.test left to the test"
    array = np.array(roles)
    parts = {role: np.flatnonzero(array == role) for role in ("train", "validation", "test")}
    return parts, rule


def _test_folder(config: ConfigDict) -> str:
    """Returns where in data.train the folder data.test lies, such as "test/"; "" if outside."""
    specs = (config.data.train, config.data.test)
    if not all(specs) or any(spec.startswith(TFDS) for spec in specs):
        return ""
    train, test = map(resolve_path, specs)
    if not (train.is_dir() and test.is_dir()):
        return ""
    # A link in data.train to a folder elsewhere is within it as well.
    for absolute in (os.path.abspath, os.path.realpath):
        inside = os.path.relpath(absolute(test), absolute(train))
        if inside != os.curdir and inside.partition(os.sep)[0] != os.pardir:
            return f"{inside}/"
    return ""


def _roles(names: list[str], location: str, config: ConfigDict) -> tuple[list[str], str]:
    """Returns what each picture is for, "" for nothing, and the rule."""
    folders = Counter(name.partition("/")[0].lower() for name in names if "/" in name)
    # A TFDS set has splits of its own, and its names can begin with one.
    wanted = config.data.split == "folders" or (config.data.split == "auto" and folders["train"])
    by_folder = wanted and not config.data.train.startswith(TFDS)
    if by_folder and not folders["train"]:
        raise UserError(
            f"{location}: config.data.split = 'folders', but no picture is in a "
            "sub-folder `train`; make one, or set --config.data.split=hash"
        )
    if by_folder:
        return _by_folder(names, folders, has_test=bool(config.data.test))
    if config.data.test or _own_test_split(config):
        return ["train"] * len(names), ""
    share = (config.data.test_fraction, config.data.test_bounds)
    limit = round((1.0 - share[0]) * _HASHES)
    count = _number(sum(_hash(name) >= limit for name in names), *share)
    tested = set(sorted(names, key=_digest, reverse=True)[:count])
    roles = ["test" if name in tested else "train" for name in names]
    return roles, f"{len(tested)} for the test ({_in_words(*share)})"


def _by_folder(names: list[str], folders: Counter[str], has_test: bool) -> tuple[list[str], str]:
    """Divides by the sub-folders train, val and test; without a test set, val is the test."""
    val = next((name for name in _VALIDATION_FOLDERS if folders[name]), "")
    by_name = {"train": "train", "test": "" if has_test else "test"}
    if val:
        by_name[val] = "validation" if has_test or folders["test"] else "test"
    roles = [by_name.get(name.partition("/")[0].lower(), "") for name in names]
    used = [f"{name} ({role})" for name, role in by_name.items() if role and folders[name]]
    rule = _BY_FOLDER + ", ".join(used)
    outside = roles.count("")
    return roles, rule + (f", {outside} pictures outside of them not used" if outside else "")


def _ascending(indices: list[int]) -> np.ndarray:
    return np.sort(np.array(indices, np.int64))


def _number(found: int, share: float, bounds: tuple[int, int]) -> int:
    """How many pictures are held out, of which `found` have a hash within the share."""
    return min(max(found, bounds[0]), bounds[1]) if share else 0


def _cures(data: ConfigDict, there: int, held_out: dict[str, int]) -> str:
    """What helps where more would be held out than trained on: what holds out so much, lowered."""
    held_out = {part: number for part, number in held_out.items() if number}
    cures = []
    if sum(data[f"{part}_fraction"] for part in held_out) <= 0.5:
        cures.append("add pictures")
    if "test" in held_out:
        cures.append("name a folder of others for the test (data.test, `gmsrm data --test`)")
    fields = [
        f"data.{part}_{'fraction' if number > data[f'{part}_bounds'][0] else 'bounds'}"
        for part, number in held_out.items()
    ]
    if there >= 2 * (_FEWEST + len(held_out) - 1):  # validation and one of each other
        cures.append(f"lower {' and '.join(fields)}")
    return ", or ".join(cures)


def _in_words(share: float, bounds: tuple[int, int]) -> str:
    return f"{100.0 * share:g} %, by a hash of the name, but {bounds[0]} to {bounds[1]}"


def _digest(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()


def _hash(name: str) -> int:
    """A number from 0 to below _HASHES."""
    return int.from_bytes(_digest(name)[:8])
