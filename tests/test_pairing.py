import os
import random
import unicodedata
from pathlib import Path

import pytest

from gmsrm_jax.data.bad_pictures import named
from gmsrm_jax.inference.pairing import existing_outputs, find_pairs, plan_outputs
from gmsrm_jax.runtime.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def put(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def pairs_of(images: str, masks: str | None) -> list[tuple[str, str, str | None]]:
    found = find_pairs(Path(images), Path(masks) if masks else None)
    return [(p.stem, str(p.image), str(p.mask) if p.mask else None) for p in found]


def outputs_of(images: str, output: str, samples: int = 1, keep: bool = False) -> list[list[str]]:
    plan = plan_outputs(find_pairs(Path(images), None), Path(images), Path(output), samples, keep)
    return [[str(file) for file in job.outputs] for job in plan.jobs]


def test_folders_are_paired_by_stem_and_subfolder():
    put("pics/b.jpg", "pics/a.PNG", "pics/sub/a.webp", "pics/фото 测试 ä.jpeg", "pics/v1.2.tif")
    put("masks/sub/a.png", "masks/фото 测试 ä.png", "masks/a.bmp", "masks/b.png", "masks/v1.2.png")
    assert pairs_of("pics", "masks") == [
        ("a", "pics/a.PNG", "masks/a.bmp"),
        ("b", "pics/b.jpg", "masks/b.png"),
        ("sub/a", "pics/sub/a.webp", "masks/sub/a.png"),
        ("v1.2", "pics/v1.2.tif", "masks/v1.2.png"),
        ("фото 测试 ä", "pics/фото 测试 ä.jpeg", "masks/фото 测试 ä.png"),
    ]


def test_composed_and_decomposed_names_are_the_same():
    composed, decomposed = (unicodedata.normalize(form, "für") for form in ("NFC", "NFD"))
    assert composed != decomposed
    put(f"pics/{decomposed}.jpg", f"masks/{composed}.png")
    (pair,) = find_pairs(Path("pics"), Path("masks"))
    assert (pair.stem, pair.mask) == (decomposed, Path("masks", f"{composed}.png"))


def test_a_thousand_files_in_any_order():
    numbers = list(range(1000))
    random.Random(0).shuffle(numbers)
    put(*(f"pics/{number % 7}/img{number}.jpg" for number in numbers))
    random.Random(1).shuffle(numbers)
    put(*(f"masks/{number % 7}/img{number}.png" for number in numbers))
    found = find_pairs(Path("pics"), Path("masks"))
    assert len(found) == 1000
    for pair in found:
        assert pair.mask is not None
        assert pair.image.relative_to("pics").with_suffix("") == Path(pair.stem)
        assert pair.mask.relative_to("masks").with_suffix("") == Path(pair.stem)


def test_single_files_one_mask_for_all_and_alpha():
    put("a.jpg", "m.png", "pics/a.png", "pics/b.png")
    assert pairs_of("a.jpg", "m.png") == [("a", "a.jpg", "m.png")]
    assert pairs_of("a.jpg", None) == [("a", "a.jpg", None)]
    assert [mask for _, _, mask in pairs_of("pics", "m.png")] == ["m.png", "m.png"]
    assert [mask for _, _, mask in pairs_of("pics", None)] == [None, None]


def test_masks_below_the_pictures_are_no_pictures_and_the_reverse():
    put("all/a.png", "all/mask.png", "all/masks/a.png")
    assert pairs_of("all", "all/mask.png") == [
        ("a", "all/a.png", "all/mask.png"),
        ("masks/a", "all/masks/a.png", "all/mask.png"),
    ]
    Path("all/mask.png").unlink()
    assert pairs_of("all", "all/masks") == [("a", "all/a.png", "all/masks/a.png")]
    put("holes/a.png", "holes/pictures/a.jpg")
    assert pairs_of("holes/pictures", "holes") == [("a", "holes/pictures/a.jpg", "holes/a.png")]


@pytest.mark.parametrize(
    "mask",
    [
        *("{}_mask", "{}-mask", "{}_mask001", "{}_mask_0", "{}_Mask", "mask_{}", "mask-{}"),
        *("{}.mask", "{} mask", "mask {}", "{}.jpg", "{}.JPG"),
    ],
)
def test_masks_may_be_named_as_masks_in_a_folder_of_their_own_or_beside(mask):
    pictures = ["pics/1", "pics/sub/v1.2", "pics/sub/ä"]
    of = {file: f"{file.rpartition('/')[0]}/{mask.format(file.rpartition('/')[2])}.png"
          for file in pictures}  # fmt: skip
    put(*(f"{file}.jpg" for file in pictures))
    put(*(name.replace("pics", "masks") for name in of.values()))
    wanted = [(file.removeprefix("pics/"), f"{file}.jpg", of[file]) for file in pictures]
    assert pairs_of("pics", "masks") == [
        (stem, image, found.replace("pics", "masks")) for stem, image, found in wanted
    ]
    put("masks/1.png")
    with pytest.raises(UserError, match="no picture for 1 of 'masks/'"):
        pairs_of("pics", "masks")
    put(*of.values())
    assert pairs_of("pics", "pics") == wanted


@pytest.mark.parametrize(
    ("files", "images", "masks", "parts"),
    [
        (
            ["pics/a.png", "pics/b.png", "masks/a.png"],
            "pics",
            "masks",
            ["in 'masks/' is no mask for 1 of 'pics/': b;"],
        ),
        (
            ["pics/a.png", "masks/a.png", "masks/c.png"],
            "pics",
            "masks",
            ["in 'pics/' is no picture for 1 of 'masks/': c;"],
        ),
        (["pics/a.png", "pics/a.jpg"], "pics", None, ["--image=pics", "a.jpg = a.png"]),
        (["pics/a.png", "m/a.png", "m/a.bmp"], "pics", "m", ["--mask=m", "a.bmp = a.png"]),
        (["pics/notes.txt", "pics/b.gif"], "pics", None, ["no pictures (*.jpg", "1 × .gif"]),
        (["pics/a.png", "pics/m.png"], "pics", "pics", ["--mask=pics: is the folder of the pict"]),
        (["p/x.png", "p/masks/x_mask.png"], "p", "p", ["or put them into a folder and pass that"]),
        (["p/a.png", "p/a_mask.png", "p/b.png"], "p", "p", ["no mask for 1 of 'p/': b"]),
        (["a.png", "masks/a.png"], "a.png", "masks", ["--mask=masks: is a folder", "mask file"]),
        (
            ["photo.png"],
            "foto.png",
            None,
            ["--image=foto.png: there is no such", "('./' holds photo.png)"],
        ),
        (["a.png"], "a.png", "no/m.png", ["--mask=no/m.png: there is no such", "no folder 'no/'"]),
        (
            ["p/x.png", "p/x_mask001.png", "m/y.png"],
            "p",
            "m",
            ["beside the pictures, pass"],
        ),
        (
            ["p/x.png", "m/x_mask.png", "m/x_mask001.png"],
            "p",
            "m",
            ["x has 2 masks (x_mask, x_"],
        ),
        (["p/x.png", "p/x_mask.png", "p/mask_x.png"], "p", "p", ["x has 2 masks"]),
        (["p/x.png", "m/x.png", "m/x_mask.png"], "p", "m", ["no picture for 1 of 'm/': x_mask"]),
        (
            ["p/x_mask.png", "p/mask_x.png", "m/mask_x_mask.png"],
            "p",
            "m",
            ["of mask_x, x_mask;"],
        ),
        (["p/x.png", "p/x_mask.png", "p/x_mask_mask.png"], "p", "p", ["no picture for 1 of 'p/'"]),
        (["p/x.png", "m/sub/x_mask.png"], "p", "m", ["no mask for 1 of 'p/': x"]),
    ],
)
def test_clashes_are_named(files, images, masks, parts):
    put(*files)
    with pytest.raises(UserError) as caught:
        pairs_of(images, masks)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_thousand_clashes_are_counted():
    put("masks/a.png", *(f"pics/{number:04d}.png" for number in range(1000)))
    with pytest.raises(
        UserError,
        match=r"for 1000 of 'pics/': 0000, .*0004 and 995 more; in 'pics/' is no picture for 1",
    ):
        pairs_of("pics", "masks")


def test_outputs_keep_folders_and_stems():
    put("pics/a.JPG", "pics/sub/b c.tif")
    assert outputs_of("pics", "out") == [["out/a.png"], ["out/sub/b c.png"]]
    assert outputs_of("pics", "out", keep=True) == [["out/a.JPG"], ["out/sub/b c.tif"]]
    assert outputs_of("pics", "out", samples=2)[1] == ["out/sub/b c_s00.png", "out/sub/b c_s01.png"]
    assert outputs_of("pics", "out", samples=101)[0][100] == "out/a_s100.png"


def test_the_output_of_a_single_picture():
    put("pics/a.jpg")
    image = "pics/a.jpg"
    assert outputs_of(image, "b.png") == [["b.png"]]
    assert outputs_of(image, "b.png", samples=2) == [["b_s00.png", "b_s01.png"]]
    assert outputs_of(image, "b.jpeg", keep=True) == [["b.jpeg"]]
    assert outputs_of(image, "new") == [["new/a.png"]]
    assert outputs_of(image, "pics") == [["pics/a.png"]]
    Path("folder.png").mkdir()
    assert outputs_of(image, "folder.png") == [["folder.png/a.png"]]
    plan = plan_outputs(find_pairs(Path(image), None), Path(image), Path("x/b.png"), 1, False)
    assert plan.folder == Path("x")


@pytest.mark.parametrize(
    ("images", "output", "keep", "part"),
    [
        ("pics", "pics", False, "--output=pics: is the folder of --image"),
        ("pics", "pics/out", False, "--output=pics/out: lies in the folder of --image"),
        ("pics", "link", False, "is the folder of --image"),
        ("pics", "out.png", False, "is the name of a file"),
        ("pics", "notes", False, "is a file that is no picture"),
        ("pics/a.jpg", "out.jpg", False, "name it out.png, or pass --format same"),
        (
            "pics/a.jpg",
            "out.png",
            True,
            "--format same writes JPEG as pics/a.jpg is; name it out.jpg",
        ),
        ("pics/a.jpg", "pics", True, "pics/a.jpg: is a picture or mask given"),
        ("pics/a.jpg", "link/a.jpg", True, "link/a.jpg: is a picture or mask given"),
        ("pics/a.jpg", "alias.jpg", True, "alias.jpg: is a picture or mask given"),
        ("b.png", ".", False, "b.png: is a picture or mask given"),
    ],
)
def test_outputs_never_replace_or_join_inputs(images, output, keep, part):
    put("pics/a.jpg", "b.png", "notes")
    os.symlink("pics", "link")
    os.symlink("pics/a.jpg", "alias.jpg")
    with pytest.raises(UserError) as caught:
        outputs_of(images, output, keep=keep)
    assert part in str(caught.value)


@pytest.mark.parametrize("suffix", [".gif", ".jp2", ".PPM"])
def test_an_output_of_a_kind_that_is_not_written_is_no_folder(suffix):
    put("a.png")
    with pytest.raises(UserError, match=rf"o\{suffix}: the suffix .*; written are: \.jpg"):
        outputs_of("a.png", f"o{suffix}")
    assert outputs_of("a.png", "o.v1") == [["o.v1/a.png"]]


def test_an_output_that_is_the_mask_is_refused():
    put("a.jpg", "out/a.png")
    pairs = find_pairs(Path("a.jpg"), Path("out/a.png"))
    with pytest.raises(UserError, match=r"out/a.png: is a picture or mask given"):
        plan_outputs(pairs, Path("a.jpg"), Path("out"), 1, False)


def test_links_in_a_circle_are_an_output_like_another_and_no_input():
    put("a.png")
    os.symlink("circle", "circle")
    os.symlink("b.png", "b.png")
    assert outputs_of("a.png", "circle") == [["circle/a.png"]]
    assert outputs_of("a.png", "b.png") == [["b.png"]]
    with pytest.raises(UserError, match="--mask=circle: there is no such file or folder"):
        find_pairs(Path("a.png"), Path("circle"))


@pytest.mark.parametrize("option", ["--image", "--mask"])
def test_what_is_no_file_is_refused_and_not_read_without_end(option):
    put("a.png")
    given = {"--image": Path("a.png"), "--mask": Path("a.png"), option: Path("/dev/zero")}
    with pytest.raises(UserError, match=f"{option}=/dev/zero: is neither a file nor a folder"):
        find_pairs(*given.values())


def test_existing_outputs_are_found():
    put("pics/a.jpg", "pics/b.jpg", "out/b.png")
    os.symlink("nowhere", "out/a.png")
    plan = plan_outputs(find_pairs(Path("pics"), None), Path("pics"), Path("out"), 1, False)
    assert existing_outputs(plan.jobs) == [Path("out/a.png"), Path("out/b.png")]


def test_names_that_are_no_text_can_be_printed():
    assert named([os.fsdecode(b"a\xff\n.png")]) == "a\\xff\\n.png"
    assert named(["\0 \x1b[2J\r\u2028 ä 1\u202fPM"]) == "\\x00 \\x1b[2J\\r\\u2028 ä 1\u202fPM"


def test_a_name_that_is_not_there_brings_those_that_are_close(tmp_path: Path) -> None:
    for name in (".git", "aaa", "photo.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"there is no such file or folder \(.* holds photo\.jpg\)"):
        find_pairs(tmp_path / "foto.jpg", None)
    with pytest.raises(UserError, match=r"holds aaa, photo\.jpg\)"):
        find_pairs(tmp_path / "12345", None)
