"""`gmsrm masks`: what it writes is read back with NumPy and Pillow alone."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.cli import main
from gmsrm_jax.data.masks.assignment import make_mask_list
from gmsrm_jax.data.masks.list_file import read_mask_list

BINS = ("no hole", "0-10%", "10-20%", "20-30%", "30-40%", "40-50%", "50-60%", ">60%")


def masks(*arguments):
    return main(["masks", *map(str, arguments)])


def bank(path):
    """Masks uint8 [N, S, S] of a bank, by the format's definition."""
    with np.load(path, allow_pickle=False) as file:
        count, size = int(file["count"]), int(file["size"])
        bits = np.unpackbits(file["bits"], axis=1)[:, : size * size]
    return bits.reshape(count, size, size)


def save_bank(path, stack):
    bits = np.packbits(stack.reshape(len(stack), -1), axis=1)
    np.savez(path, bits=bits, count=len(stack), size=stack.shape[1])


def with_holes(counts, size):
    """Masks [N, size, size] with the first `counts` pixels in the hole."""
    pixels = np.arange(size * size).reshape(size, size)
    return np.stack([pixels < count for count in counts]).astype(np.uint8)


def save_picture(path, mask, values=(0, 255)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(mask, values[1], values[0]).astype(np.uint8)).save(path)


def printed_histogram(text):
    found = re.findall(r"^ *(no hole|\d+-\d+%|>60%) +(\d+) ", text, re.MULTILINE)
    assert tuple(name for name, _ in found) == BINS
    return [int(count) for _, count in found]


def refusal(capsys, *arguments):
    """The one line of an error, its exit status checked."""
    assert masks(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("gmsrm: error: ") and message.count("\n") == 1
    return message


@pytest.fixture(scope="module")
def mask_folder(tmp_path_factory):
    """Two masks of 64 px for each bin, one in a subfolder; every pixel is 2 x 2 large."""
    root = tmp_path_factory.mktemp("irregular")
    for number, ratio in enumerate((0.05, 0.15, 0.25, 0.35, 0.45, 0.55)):
        mask = with_holes([round(1024 * ratio)], 32)[0].repeat(2, 0).repeat(2, 1)
        save_picture(root / f"{number}.png", mask)
        save_picture(root / "more" / f"{number}.png", mask[::-1])
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "test.npy"
    np.save(path, np.zeros((5, 40, 40, 3), np.uint8))
    return path


# --- draw ---------------------------------------------------------------------------------------


def test_a_bank_and_a_folder_of_one_seed_hold_the_same_masks(tmp_path, capsys):
    draw = ["draw", "--sampler", "pic_regular:1,pic:2", "--size", 32, "--seed", 4]
    assert masks(*draw, "--count", 70, "--output", tmp_path / "bank.npz") == 0
    output = capsys.readouterr().out
    drawn = bank(tmp_path / "bank.npz")
    assert drawn.shape == (70, 32, 32)
    assert len({mask.tobytes() for mask in drawn}) > 60
    assert sum(printed_histogram(output)) == 70
    assert f"hole ratio: mean {100 * drawn.mean():.2f} %" in output

    assert masks(*draw, "--count", 70, "--output", tmp_path / "pngs") == 0
    files = sorted((tmp_path / "pngs").iterdir())
    assert [file.name for file in files] == [f"{index:05d}.png" for index in range(70)]
    for file, mask in zip(files, drawn, strict=True):
        with Image.open(file) as picture:
            assert picture.mode == "L"
            np.testing.assert_array_equal(np.asarray(picture), 255 * mask)
    assert {path.name for path in tmp_path.iterdir()} == {"bank.npz", "pngs"}


def test_a_mask_depends_on_its_seed_and_number_alone(tmp_path):
    def drawn(name, *arguments):
        path = tmp_path / name
        draw = ["draw", "--sampler", "pic_regular", "--size", 32, "--output", path]
        assert masks(*draw, *arguments) == 0
        return path

    first = drawn("a.npz", "--count", 20)
    assert drawn("b.npz", "--count", 20, "--seed", 0).read_bytes() == first.read_bytes()
    np.testing.assert_array_equal(bank(drawn("c.npz", "--count", 6)), bank(first)[:6])
    other = bank(drawn("d.npz", "--count", 20, "--seed", 1))
    assert not {mask.tobytes() for mask in other} & {mask.tobytes() for mask in bank(first)}


def test_masks_to_train_with_are_not_those_to_test_with(tmp_path):
    """Both draw pic_irregular's first masks from seed 0."""
    draw = ["draw", "--sampler", "pic_irregular", "--size", 32, "--count", 8]
    assert masks(*draw, "--output", tmp_path / "bank.npz") == 0
    trained = {hashlib.sha256(mask.tobytes()).hexdigest() for mask in bank(tmp_path / "bank.npz")}
    assert trained.isdisjoint(make_mask_list(["a"], 32, 0).hashes[0])


def test_centre_holes_are_one_mask(tmp_path):
    expected = {"centre:0.25": (64, 128), "centre:0.5": (37, 181)}
    for sampler, (first, side) in expected.items():
        output = tmp_path / f"{side}.npz"
        assert masks("draw", "--sampler", sampler, "--output", output) == 0
        (mask,) = bank(output)
        hole = np.zeros((256, 256), np.uint8)
        hole[first : first + side, first : first + side] = 1
        np.testing.assert_array_equal(mask, hole)


# --- pack ---------------------------------------------------------------------------------------


def test_pack_takes_all_pictures_below_a_folder_in_order(mask_folder, tmp_path):
    assert masks("pack", "--input", mask_folder, "--size", 32, "--output", tmp_path / "a.npz") == 0
    names = [f"{n}.png" for n in range(6)] + [f"more/{n}.png" for n in range(6)]
    expected = [np.asarray(Image.open(mask_folder / name))[::2, ::2] >= 128 for name in names]
    np.testing.assert_array_equal(bank(tmp_path / "a.npz"), np.stack(expected))
    packed = (tmp_path / "a.npz").read_bytes()
    pack = ["pack", "--input", mask_folder, "--size", 32, "--output", tmp_path / "b.npz"]
    assert masks(*pack, "--invert") == 0
    np.testing.assert_array_equal(bank(tmp_path / "b.npz"), ~np.stack(expected))
    assert masks(*pack, "--overwrite") == 0
    assert (tmp_path / "b.npz").read_bytes() == packed


def test_128_is_hole_and_127_is_not(tmp_path, capsys):
    mask = with_holes([300], 32)[0]
    save_picture(tmp_path / "masks" / "a.png", mask, values=(127, 128))
    pack = ["pack", "--input", tmp_path / "masks", "--size", 32]
    assert masks(*pack, "--output", tmp_path / "bank.npz") == 0
    np.testing.assert_array_equal(bank(tmp_path / "bank.npz"), mask[None])
    save_picture(tmp_path / "masks" / "a.png", mask, values=(0, 0))
    message = refusal(capsys, *pack, "--output", tmp_path / "none.npz")
    assert "none of 1 mask has a white pixel" in message
    assert not (tmp_path / "none.npz").exists()


def test_unreadable_files_are_all_counted_and_five_are_named(mask_folder, tmp_path, capsys):
    folder = tmp_path / "masks"
    for number in range(9):
        path = folder / f"{number}.png"
        save_picture(path, with_holes([100], 32)[0])
        if number % 8:
            path.write_bytes(path.read_bytes()[:60])
    pack = ["pack", "--input", folder, "--size", 32, "--output", tmp_path / "bank.npz"]
    message = refusal(capsys, *pack)
    assert "7 of 9 masks cannot be read: 1.png, 2.png, 3.png, 4.png, 5.png and 2 more;" in message
    (folder / "6.png").unlink()
    (folder / "7.png").unlink()
    assert "5 of 7 masks cannot be read: 1.png, 2.png, 3.png, 4.png, 5.png;" in refusal(
        capsys, *pack
    )
    assert "1.png: not a readable mask (image file is truncated)" in refusal(capsys, *pack)
    assert not (tmp_path / "bank.npz").exists()


# --- assign -------------------------------------------------------------------------------------


def test_assign_writes_one_mask_of_every_bin(mask_folder, pictures, tmp_path, capsys):
    path = tmp_path / "list.npz"
    assign = ["assign", "--images", pictures, "--size", 32, "--masks", mask_folder]
    assert masks(*assign, "--output", path) == 0
    output = capsys.readouterr().out
    with np.load(path, allow_pickle=False) as file:
        packed, names, digests = file["packed"], file["names"], file["sha256"]
        assert str(file["source"]) == f"folder {mask_folder.name}, 12 files, seed 0"
    assert list(names) == [f"{index:06d}" for index in range(5)]
    holes = np.unpackbits(packed, axis=2)
    for position in range(6):
        ratios = holes[:, position].mean(1)
        assert ((ratios > position / 10) & (ratios <= (position + 1) / 10)).all()
        mean = 100 * ratios.mean()
        assert re.search(rf" {BINS[position + 1]} +5 masks, mean ratio +{mean:.2f} %", output)
    assert holes[:, 6].sum() == 5 * 16**2 and holes[:, 7].sum() == 5 * 23**2
    text = "\n".join(
        ["32", *BINS[1:7], "centre 25%", "centre 50%"]
        + [word for name, row in zip(names, digests, strict=True) for word in (name, *row)]
    )
    assert f"SHA-256 {hashlib.sha256(text.encode()).hexdigest()}" in output
    for row, mask_digests in zip(holes, digests, strict=True):
        assert [hashlib.sha256(mask.tobytes()).hexdigest() for mask in row] == list(mask_digests)


def test_a_list_that_exists_is_kept_unless_told_otherwise(mask_folder, pictures, tmp_path, capsys):
    path = tmp_path / "list.npz"
    assign = ["assign", "--images", pictures, "--size", 32, "--masks", mask_folder]
    assign += ["--output", path]
    assert masks(*assign) == 0
    before = path.stat()
    capsys.readouterr()
    assert masks(*assign) == 0
    assert "holds this list already" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before.st_mtime_ns

    old = read_mask_list(path)
    for seed in range(1, 9):
        assert masks(*assign, "--seed", seed, "--output", tmp_path / f"{seed}.npz") == 0
        new = read_mask_list(tmp_path / f"{seed}.npz")
        if new.hashes != old.hashes:
            break
    message = refusal(capsys, *assign, "--seed", seed)
    assert f"5 pictures, {old.source}, SHA-256 {old.sha256[:12]}…" in message
    assert f"{new.source}, SHA-256 {new.sha256[:12]}…; add --overwrite" in message
    assert "exists with other content" in refusal(capsys, *assign, "--max-images", 3)
    assert "exists with other content" in refusal(capsys, *assign, "--size", 64)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert masks(*assign, "--seed", seed, "--overwrite") == 0
    assert path.read_bytes() == (tmp_path / f"{seed}.npz").read_bytes()

    path.write_text("notes")
    assert "(it cannot be read as a mask list)" in refusal(capsys, *assign)
    assert path.read_text() == "notes"


def test_another_seed_of_the_same_masks_is_named(mask_folder, pictures, tmp_path, capsys):
    """One mask in each bin leaves nothing to draw."""
    for number in range(6):
        target = tmp_path / "masks" / f"{number}.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((mask_folder / f"{number}.png").read_bytes())
    assign = ["assign", "--images", pictures, "--size", 32, "--masks", tmp_path / "masks"]
    assign += ["--output", tmp_path / "list.npz"]
    assert masks(*assign) == 0
    message = refusal(capsys, *assign, "--seed", 1)
    assert "12 files" not in message and "seed 0, SHA-256" in message and "seed 1," in message


def test_assign_draws_the_masks_that_an_evaluation_would(pictures, tmp_path):
    assign = ["assign", "--images", pictures, "--size", 32, "--seed", 2, "--max-images", 2]
    assert masks(*assign, "--output", tmp_path / "list.npz") == 0
    drawn = make_mask_list(["000000", "000001"], 32, 2)
    assert read_mask_list(tmp_path / "list.npz").facts() == drawn.facts()


def test_assign_takes_the_test_pictures_of_a_config(mask_folder, tmp_path):
    card = tmp_path / "card.py"
    card.write_text(
        "from gmsrm_jax.config.fields import apply_argument, base_config\n"
        "def get_config(argument=None):\n"
        "    config = base_config()\n"
        "    config.data.train = 'bundled:facades/train'\n"
        "    return apply_argument(config, argument)\n"
    )
    path = tmp_path / "list.npz"
    assign = ["assign", "--images", f"{card}:runlocal", "--size", 32, "--masks", mask_folder]
    assert masks(*assign, "--output", path) == 0
    assert len(read_mask_list(path).names) == 60
    assign[2] = card
    assert masks(*assign, "--output", path, "--overwrite") == 0
    names = read_mask_list(path).names
    training = [f"facade_{number:04d}.jpg" for number in range(700)]
    assert 5 < len(names) < 40 and set(names) < set(training)


def test_assign_names_the_pictures_that_are_left_out(mask_folder, tmp_path, capsys):
    for number in range(100):
        save_picture(tmp_path / "test" / f"{number:02d}.png", np.zeros((32, 32)))
    (tmp_path / "test" / "07.png").write_bytes(b"")
    assign = ["assign", "--images", tmp_path / "test", "--size", 32, "--masks", mask_folder]
    assert masks(*assign, "--output", tmp_path / "list.npz") == 0
    assert "left out 07.png" in capsys.readouterr().out
    names = read_mask_list(tmp_path / "list.npz").names
    assert len(names) == 99 and "07.png" not in names


# --- show ---------------------------------------------------------------------------------------


def test_bins_include_their_upper_border(tmp_path, capsys):
    """At 40 px, 160 pixels are exactly 10 %."""
    counts = [0, 1, 160, 161, 320, 480, 481, 800, 960, 961, 1600]
    save_bank(tmp_path / "bank.npz", with_holes(counts, 40))
    assert masks("show", tmp_path / "bank.npz") == 0
    output = capsys.readouterr().out
    assert printed_histogram(output) == [1, 2, 2, 1, 1, 1, 1, 2]
    percent = [100 * count / 1600 for count in counts]
    mean = sum(percent) / 11
    deviation = (sum((value - mean) ** 2 for value in percent) / 11) ** 0.5
    assert "11 masks of 40 px" in output
    assert f"mean {mean:.2f} %, sd {deviation:.2f} %" in output
    # Eleven sorted values: the quantile q lies at place 10 q, between two values linearly.
    assert "1 / 25 / 50 / 75 / 99 %: 0.0 / 10.0 / 30.0 / 55.0 / 96.0 %" in output


def test_sheet_runs_from_the_smallest_hole_to_the_largest(tmp_path):
    counts = np.random.default_rng(0).permutation(np.arange(1, 101) * 10)
    save_bank(tmp_path / "bank.npz", with_holes(counts, 32))
    sheet = tmp_path / "sheet.png"
    assert masks("show", tmp_path / "bank.npz", "--output", sheet) == 0
    with Image.open(sheet) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert picture.size == (8 * 132 - 2, 6 * 146 - 2)
        pixels = np.asarray(picture)
    for (top, left), count in {(1, 1): 10, (5 * 146 + 1, 7 * 132 + 1): 1000}.items():
        tile = pixels[top : top + 128, left : left + 128]
        expected = with_holes([count], 32)[0].repeat(4, 0).repeat(4, 1) * 255
        np.testing.assert_array_equal(tile, np.repeat(expected[..., None], 3, axis=2))
    assert (pixels[0, :130] == 128).all()


def test_sheet_of_few_large_masks(tmp_path):
    save_bank(tmp_path / "bank.npz", with_holes([100, 30000, 60000], 256))
    assert masks("show", tmp_path / "bank.npz", "--output", tmp_path / "sheet.png") == 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (3 * 132 - 2, 144)


def test_show_opens_folders_lists_and_samplers(mask_folder, pictures, tmp_path, capsys):
    assert masks("show", mask_folder, "--size", 32) == 0
    output = capsys.readouterr().out
    assert f"12 masks of 32 px: folder {mask_folder.name}, 12 files" in output
    assert printed_histogram(output) == [0, 2, 2, 2, 2, 2, 2, 0]
    assert masks("show", mask_folder, "--size", 32, "--invert") == 0
    assert printed_histogram(capsys.readouterr().out) == [0, 0, 0, 0, 0, 2, 2, 8]
    assign = ["assign", "--images", pictures, "--size", 32, "--masks", mask_folder]
    assert masks(*assign, "--output", tmp_path / "list.npz") == 0
    capsys.readouterr()
    assert masks("show", tmp_path / "list.npz") == 0
    output = capsys.readouterr().out
    assert "40 masks of 32 px: mask list of 5 pictures × 8 masks" in output
    assert printed_histogram(output) == [0, 5, 5, 10, 5, 5, 10, 0]  # centres 25.0 and 51.7 %
    assert masks("show", "pic", "--size", 32, "--count", 9, "--seed", 2) == 0
    output = capsys.readouterr().out
    assert "9 masks of 32 px: pic, seed 2" in output and sum(printed_histogram(output)) == 9


def test_a_path_is_taken_before_a_sampler_of_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_picture(tmp_path / "pic" / "0.png", with_holes([512], 32)[0])
    assert masks("show", "pic", "--size", 32) == 0
    output = capsys.readouterr().out
    assert "1 mask of 32 px: folder pic, 1 file\n" in output
    assert printed_histogram(output)[5] == 1  # 50 % exactly


# --- errors -------------------------------------------------------------------------------------


def test_options_without_effect_are_refused(mask_folder, pictures, tmp_path, capsys):
    save_bank(tmp_path / "bank.npz", with_holes([10], 32))
    for arguments, option in (
        ([tmp_path / "bank.npz", "--size", 32], "size"),
        ([tmp_path / "bank.npz", "--invert"], "invert"),
        ([tmp_path / "bank.npz", "--count", 2], "count"),
        ([mask_folder, "--seed", 2], "seed"),
        (["centre:0.5", "--invert"], "invert"),
    ):
        assert f"--{option} has no effect" in refusal(capsys, "show", *arguments)
    assign = ["assign", "--images", pictures, "--output", tmp_path / "list.npz"]
    assert "--masks=DIR" in refusal(capsys, *assign, "--invert")


def test_what_cannot_be_opened_is_named(mask_folder, pictures, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no masks")
    output = ["--output", tmp_path / "out.npz"]
    assign = ["assign", "--images", pictures, "--size", 32]
    for arguments, text in (
        (["show", tmp_path / "empty"], "empty: no pictures"),
        (["show", tmp_path / "notes.txt"], "notes.txt: neither a mask bank nor a mask list"),
        (["show", tmp_path / "none.npz"], "none.npz: no such file"),
        (["show", "pci"], "'pci' is no existing path"),
        (["show", "centre:half"], "write a share of the picture, as centre:0.25"),
        (["show", "centre:1.5"], "centre hole ratio 1.5"),
        (["draw", "--sampler", "pci", *output], "mask sampler 'pci' is unknown"),
        (["pack", "--input", tmp_path / "empty", *output], "empty: no pictures"),
        (["pack", "--input", tmp_path / "none", *output], "none: no such folder"),
        (["assign", "--images", tmp_path / "none", *output], "none: no such folder"),
        (
            [*assign, "--masks", mask_folder / "more/..", "--invert", *output],
            "has a hole of 0-10%, 10-20%, 20-30%, 30-40%",
        ),
    ):
        assert text in refusal(capsys, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "notes.txt"]


def test_outputs_are_not_replaced_unasked(mask_folder, pictures, tmp_path, capsys):
    centre = ["draw", "--sampler", "centre:0.5", "--size", 32, "--output"]
    pack = ["pack", "--input", mask_folder, "--size", 32, "--output"]
    taken = tmp_path / "bank.npz"
    taken.write_text("mine")
    assert "exists; add --overwrite" in refusal(capsys, *centre, taken)
    assert "exists; add --overwrite" in refusal(capsys, *pack, taken)
    assert taken.read_text() == "mine"
    assert masks(*centre, taken, "--overwrite") == 0 and len(bank(taken)) == 1
    assert "is no empty folder" in refusal(capsys, *centre, tmp_path, "--overwrite")
    assert "rename it" in refusal(capsys, *centre, tmp_path / "bank.npy")
    assert "must end in .npz" in refusal(capsys, *pack, tmp_path / "folder")
    assert "must end in .png" in refusal(capsys, "show", taken, "--output", tmp_path / "s.npz")
    below_a_file = taken / "new"
    assert "cannot be written" in refusal(capsys, *centre, below_a_file)
    assert "cannot be written" in refusal(capsys, "show", taken, "--output", taken / "s.png")
    (tmp_path / "new").mkdir()
    assert masks(*centre, tmp_path / "new") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank.npz", "new"]


def test_a_home_may_be_written_as_a_tilde(mask_folder, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "masks").symlink_to(mask_folder)
    assert masks("draw", "--sampler", "centre:0.5", "--size", 32, "--output=~/centre.npz") == 0
    assert masks("pack", "--input=~/masks", "--size", 32, "--output=~/packed.npz") == 0
    assert masks("show", "~/packed.npz", "--output=~/sheet.png") == 0
    (tmp_path / "test.npy").symlink_to(pictures)
    drawn = ["--masks=~/masks", "--size", 32, "--output=~/list.npz"]
    assert masks("assign", "--images=~/test.npy", *drawn) == 0
    made = {path.name for path in tmp_path.glob("*.*")}
    assert made >= {"centre.npz", "packed.npz", "sheet.png", "list.npz"}
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--size", "100"], ["--size", "16"], ["--count", "0"], ["--seed", "-1"], ["--col"]],
)
def test_wrong_numbers_end_with_status_2(tmp_path, arguments):
    with pytest.raises(SystemExit, match="2"):
        masks("draw", "--sampler", "centre:0.5", *arguments, "--output", tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_samplers_are_listed(capsys):
    assert masks("samplers") == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"pic", "pic_regular", "pic_irregular"} <= set(listed)


def test_scripts_see_the_exit_status(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "gmsrm_jax.cli", "masks", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    draw = ["draw", "--sampler", "centre:0.25", "--size", 32, "--output", tmp_path / "bank.npz"]
    done = run(*draw)
    assert (done.returncode, done.stderr) == (0, "")
    assert bank(tmp_path / "bank.npz").sum() == 16**2
    refused = run(*draw)
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.startswith("gmsrm: error: ") and refused.stderr.count("\n") == 1


def test_folders_and_lists_need_no_tensorflow(mask_folder, pictures, tmp_path):
    code = "import sys; sys.modules['tensorflow'] = None\nfrom gmsrm_jax.cli import main\n"
    assign = ["masks", "assign", "--images", pictures, "--size", 32, "--masks", mask_folder]
    calls = (
        ["masks", "show", mask_folder, "--output", tmp_path / "sheet.png"],
        [*assign, "--output", tmp_path / "list.npz"],
    )
    for call in calls:
        code += f"assert main({[str(word) for word in call]}) == 0\n"
    code += "sys.exit(main(['masks', 'samplers']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("gmsrm: error: TensorFlow, which draws holes")
    assert {path.name for path in tmp_path.iterdir()} == {"sheet.png", "list.npz"}
