"""The class that people import: kinds, seeds, streams, devices, memory and programs."""

import dataclasses
import functools
import io
import itertools
import pathlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small_inpainter import small_inpainter, small_pretrained
from small_networks import SIZE

import gmsrm_jax
from gmsrm_jax.inference import inpainter as inpainting
from gmsrm_jax.inference.inpainter import Inpainter, NotEnoughMemory, Result
from gmsrm_jax.inference.picture_io import save_picture
from gmsrm_jax.inference.tiling import Filling
from gmsrm_jax.methods.gm_srm.memory import draw_noise
from gmsrm_jax.methods.gm_srm.network import asked_resolutions, build_network
from gmsrm_jax.runtime.errors import UserError


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def square_hole(height: int, width: int, side: int) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    top, left = (height - side) // 2, (width - side) // 3
    hole[top : top + side, left : left + side] = True
    return hole


def image_of(result: object) -> np.ndarray:
    assert isinstance(result, Result)
    return np.asarray(result.images[0])


def test_the_package_offers_it() -> None:
    assert gmsrm_jax.Inpainter is Inpainter
    assert not hasattr(gmsrm_jax, "Outpainter")


def test_at_its_own_size_it_is_the_networks_composite() -> None:
    image, hole = photo(SIZE, SIZE), square_hole(SIZE, SIZE, 15)
    config = small_pretrained().config
    network = build_network(config)
    key = jax.random.fold_in(jax.random.key(5), 0)  # seed and index
    noise = draw_noise(key, 1, asked_resolutions(config))
    signed = image[None].astype(np.float32) / 127.5 - 1
    mask = hole[None, ..., None].astype(np.float32)
    variables = small_pretrained().variables["network"]
    raw = jax.jit(network.apply)(variables, signed, mask, noise).image
    pixels = np.rint((np.clip(np.asarray(raw[0]), -1, 1) + np.float32(1)) * np.float32(127.5))
    wanted = np.where(hole[..., None], pixels.astype(np.uint8), image)
    result = small_inpainter()(image, hole, seed=5, strategy="resize")
    assert result.strategy == "resize" and result.warnings == []
    np.testing.assert_array_equal(result.images[0], wanted)


@pytest.mark.parametrize("side", [SIZE // 2, SIZE, SIZE * 3 // 2, SIZE * 2])
def test_an_even_surface_of_any_size_is_filled_evenly(side: int) -> None:
    surface = np.full((side, side - 1, 3), (180, 190, 200), np.uint8)
    hole = square_hole(side, side - 1, side // 3)
    hole[:, -3:] = hole[3] = True
    result = small_inpainter()(surface, hole, feather=2)
    np.testing.assert_array_equal(image_of(result), surface)
    assert result.strategy == ("resize" if side <= SIZE * 3 // 2 else "detail")
    alone = small_inpainter()(surface, hole, strategy="resize")
    assert (image_of(alone) != surface).any()  # the network's fill, as it is


@pytest.mark.parametrize("strategy", ["auto", "resize", "crop", "tile", "detail"])
def test_known_pixels_are_bit_identical_whatever_the_hole(strategy: str) -> None:
    rng = np.random.default_rng(1)
    items = []
    for number in range(30):
        height, width = rng.integers(1, 120, 2)
        share = rng.choice([0.0, 0.001, 0.05, 0.5, 1.0])
        hole = rng.random((height, width)) < share
        top, left = rng.integers(height), rng.integers(width)
        hole[top : top + rng.integers(1, 60), left : left + rng.integers(1, 60)] = True
        items.append((photo(height, width, number), hole))
    results = small_inpainter().batch(items, strategy=strategy, feather=3)
    for (image, hole), result in zip(items, results, strict=True):
        filled = image_of(result)
        assert (filled.shape, filled.dtype) == (image.shape, image.dtype)
        np.testing.assert_array_equal(filled[~hole], image[~hole])


def test_the_result_is_of_the_kind_of_the_picture(tmp_path: pathlib.Path) -> None:
    image, hole = photo(40, 50), square_hole(40, 50, 12)
    path = tmp_path / "a.png"
    Image.fromarray(image).convert("CMYK").save(path.with_suffix(".tif"))
    Image.fromarray(image).save(path)
    inpainter = small_inpainter()
    wanted = image_of(inpainter(image, hole))
    for source in (Image.fromarray(image), path, str(path), path.read_bytes()):
        result = inpainter(source, hole).images[0]
        assert isinstance(result, Image.Image) and result.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(result), wanted)
    assert inpainter(path.with_suffix(".tif"), hole).images[0].mode == "CMYK"
    grey = inpainter(image[..., 0].astype(np.uint16) * 257, hole).images[0]
    assert isinstance(grey, np.ndarray) and (grey.shape, grey.dtype) == ((40, 50), np.uint16)


def test_transparent_parts_are_filled_when_there_is_no_mask() -> None:
    hole = square_hole(40, 40, 10)
    image = np.dstack([photo(40, 40), np.where(hole, np.uint8(0), np.uint8(255))])
    result = small_inpainter()(image)
    assert result.hole_ratio == hole.mean()
    assert (image_of(result)[..., 3] == 255).all()
    np.testing.assert_array_equal(image_of(result)[~hole], image[~hole])


def test_no_hole_gives_the_picture_back_and_says_so() -> None:
    image = photo(20, 30)
    result = small_inpainter()(image, np.zeros((20, 30), bool), num_samples=2)
    assert (result.strategy, result.hole_ratio, len(result.images)) == ("none", 0.0, 2)
    assert "no hole" in result.warnings[0]
    np.testing.assert_array_equal(image_of(result), image)
    assert image_of(result) is not image


def test_a_picture_that_is_all_hole_is_filled_and_said() -> None:
    result = small_inpainter()(photo(50, 70), np.ones((50, 70), bool))
    assert "all of it is hole" in result.warnings[0] and result.strategy == "resize"


def test_samples_differ_in_the_hole_and_seeds_repeat() -> None:
    image, hole = photo(90, 90), square_hole(90, 90, 20)
    inpainter = small_inpainter()
    result = inpainter(image, hole, num_samples=3, seed=7)
    assert result.seeds == [7, 8, 9]
    first, second, third = (np.asarray(one)[hole] for one in result.images)
    assert (first != second).mean() > 0.1 and (second != third).mean() > 0.1
    for one, wanted in zip(
        inpainter(image, hole, num_samples=3, seed=7).images, result.images, strict=True
    ):
        np.testing.assert_array_equal(one, wanted)
    alone = image_of(inpainter(image, hole, seed=8))
    # Another batch bucket is another program, which may round otherwise.
    assert np.abs(alone.astype(int) - result.images[1]).max() <= 1


def test_jaxs_default_generator_does_not_change_the_samples() -> None:
    image, hole = photo(SIZE, SIZE), square_hole(SIZE, SIZE, 12)
    wanted = small_inpainter()(image, hole, num_samples=3, seed=7).images
    with jax.default_prng_impl("unsafe_rbg"):
        given = Inpainter(small_pretrained(), device="cpu")(image, hole, num_samples=3, seed=7)
    for one, other in zip(given.images, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("strategy", ["crop", "tile"])
def test_windows_of_one_picture_have_noise_of_their_own(strategy: str) -> None:
    image = np.full((64, 200, 3), 90, np.uint8)
    hole = np.zeros((64, 200), bool)
    hole[20:40, 20:40] = hole[20:40, 152:172] = True
    filled = image_of(small_inpainter()(image, hole, strategy=strategy))
    left, right = filled[20:40, 20:40], filled[20:40, 152:172]
    assert (left != right).mean() > 0.1


def test_a_stream_gives_what_single_calls_give_in_order() -> None:
    items = [
        (photo(30 + 9 * k, 95 - 7 * k, k), square_hole(30 + 9 * k, 95 - 7 * k, 8 + k))
        for k in range(9)
    ]
    inpainter = small_inpainter()
    for strategy in ("auto", "tile"):
        results = list(inpainter.batch(iter(items), num_samples=2, seed=3, strategy=strategy))
        for (image, hole), result in zip(items, results, strict=True):
            assert isinstance(result, Result)
            wanted = inpainter(image, hole, num_samples=2, seed=3, strategy=strategy)
            assert result.strategy == wanted.strategy
            for one, other in zip(result.images, wanted.images, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_stream_takes_items_as_it_needs_them() -> None:
    taken = 0

    def endless() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal taken
        while True:
            taken += 1
            yield photo(SIZE, SIZE), square_hole(SIZE, SIZE, 5)

    inpainter = small_inpainter()
    stream = inpainter.batch(endless())
    assert taken == 0
    for count in range(1, 30):
        next(stream)
        assert taken == count


def test_one_bad_item_is_named_or_given_in_its_place(tmp_path: pathlib.Path) -> None:
    good = (photo(40, 40), square_hole(40, 40, 9))
    items = [good, (tmp_path / "gone.png", good[1]), good, (photo(9, 9), good[1]), good]
    inpainter = small_inpainter()
    results = list(inpainter.batch(items, on_error="return"))
    assert [isinstance(result, UserError) for result in results] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert "gone.png: not there" in str(results[1])
    stream = inpainter.batch(items)
    assert isinstance(next(stream), Result)
    with pytest.raises(UserError, match=r"item 1: .*gone\.png: not there"):
        next(stream)
    with pytest.raises(UserError, match="gone"):
        inpainter(*items[1])
    with pytest.raises(UserError, match="'skip'; use 'raise' or 'return'"):
        inpainter.batch(items, on_error="skip")


def test_errors_in_the_place_of_items_come_out_as_they_go_in() -> None:
    good = (photo(40, 40), square_hole(40, 40, 9))
    inpainter = small_inpainter()
    first, second = inpainter.batch([UserError("torn"), good], on_error="return")
    assert str(first) == "torn" and isinstance(second, Result)
    endless = inpainter.batch((UserError(f"{k}") for k in itertools.count()), on_error="return")
    assert [str(next(endless)) for _ in range(50)] == [f"{k}" for k in range(50)]
    with pytest.raises(UserError, match="item 1: torn"):
        list(inpainter.batch([good, UserError("torn")]))


@pytest.mark.parametrize(
    "error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_a_picture_for_which_memory_does_not_suffice_is_named(monkeypatch, error) -> None:
    whole = inpainting.fill

    def fill(strategy: str, rgb: np.ndarray, *arguments: object) -> Filling:
        if rgb.shape[1] == 44:
            raise error
        return whole(strategy, rgb, *arguments)

    monkeypatch.setattr(inpainting, "fill", fill)
    items = [(photo(40, side), square_hole(40, side, 9)) for side in (40, 44, 40)]
    first, second, third = small_inpainter().batch(items, on_error="return")
    assert isinstance(first, Result) and isinstance(third, Result)
    assert "picture: 44 x 40 px need more memory than there is" in str(second)
    with pytest.raises(NotEnoughMemory):
        list(small_inpainter().batch(items))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples = 0; use 1 to 10000"),
        ({"num_samples": 2**32}, "num_samples = 4294967296; use 1 to 10000"),
        ({"seed": -1}, "seed = -1; use 0 to 4294967295"),
        ({"num_samples": 4, "seed": 2**32 - 3}, "seed = 4294967293; use 0 to 4294967292"),
        ({"seed": True}, "seed = True is not of type int"),
        ({"seed": 2**32}, "seed = 4294967296; use 0 to 4294967295"),
        ({"strategy": "full"}, "strategy = 'full'; use one of: auto, resize, crop, tile"),
        ({"feather": -2}, "feather = -2; it must be 0 or above"),
        ({"mask_threshold": 256}, "mask_threshold = 256; use 1 to 255"),
        ({"mask_threshold": "x"}, "mask_threshold = 'x' is not of type int or None; give one"),
        ({"mask_dilate": -1}, "mask_dilate = -1; it must be 0 or above"),
        ({"mask_invert": 1}, "mask_invert = 1 is not of type bool"),
        ({"mask_resize": "cubic"}, "mask_resize = 'cubic'; use one of: nearest"),
        ({"sampels": 2}, "sampels: no such field; use one of: num_samples, seed, strategy"),
        ({"max_pixels": 99}, "limit of 99 px|1 to 99 px"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_inpainter()(photo(20, 20), square_hole(20, 20, 5), **options)


def test_the_last_seeds_and_numpys_numbers_count() -> None:
    image, hole = photo(20, 20), square_hole(20, 20, 5)
    result = small_inpainter()(image, hole, num_samples=np.int64(2), seed=np.uint32(2**32 - 2))
    assert result.seeds == [2**32 - 2, 2**32 - 1]


def test_mask_options_reach_the_mask() -> None:
    image, hole = photo(40, 40), square_hole(40, 40, 10)
    inpainter = small_inpainter()
    assert inpainter(image, ~hole, mask_invert=True).hole_ratio == hole.mean()
    assert inpainter(image, hole, mask_dilate=2).hole_ratio == 14 * 14 / 1600
    assert inpainter(image, hole[::2, ::2], mask_resize="nearest").hole_ratio > 0
    grey = np.where(hole, np.uint8(100), np.uint8(0))
    assert inpainter(image, grey, mask_threshold=90).hole_ratio == hole.mean()


def test_what_on_step_raises_ends_the_call_and_nothing_else() -> None:
    inpainter = small_inpainter()
    image = photo(64, 200)
    hole = np.zeros((64, 200), bool)
    hole[20:40, 10:190] = True
    wanted = image_of(inpainter(image, hole, strategy="tile"))
    steps = 0

    def count(last: int) -> None:
        nonlocal steps
        steps += 1
        if steps == last:
            raise TimeoutError(f"step {steps}")

    assert inpainter(image, hole, strategy="tile", on_step=lambda: count(-1)).warnings == []
    every, steps = steps, 0
    assert every > 2
    for last in (1, every):
        steps = 0
        with pytest.raises(TimeoutError, match=f"step {last}"):
            inpainter(image, hole, strategy="tile", on_step=functools.partial(count, last))
        assert steps == last
        np.testing.assert_array_equal(image_of(inpainter(image, hole, strategy="tile")), wanted)


def test_samples_of_a_small_picture_share_a_batch() -> None:
    inpainter = small_inpainter()
    steps: list[int] = []
    image, hole = photo(90, 90), square_hole(90, 90, 20)
    count = inpainter.max_batch
    inpainter(image, hole, count, strategy="crop", on_step=lambda: steps.append(1))
    assert len(steps) == 1


def test_samples_of_a_large_picture_are_not_all_worked_on_at_once() -> None:
    inpainter = small_inpainter()
    image, hole = photo(60, 80)[..., 0].repeat(50, 0).repeat(50, 1), square_hole(3000, 4000, 10)
    steps: list[int] = []
    result = inpainter(image, hole, 6, strategy="crop", on_step=lambda: steps.append(1))
    assert len({np.asarray(one)[hole].tobytes() for one in result.images}) == 6
    # Of 12 megapixels two at a time, since tiling takes some 40 bytes for each pixel of each
    # sample; one batch holds four squares, and each sample asks for one.
    assert len(steps) == 3 and inpainter.max_batch == 4


def test_any_number_of_sizes_needs_no_further_program() -> None:
    inpainter = small_inpainter()
    compiled: list[str] = []
    with_hole = [(photo(40, 40), square_hole(40, 40, 8))] * (inpainter.max_batch + 3)
    list(inpainter.batch(with_hole, num_samples=2))
    for count in range(1, inpainter.max_batch + 1):
        inpainter.warm_up(count)

    def listen(event: str, duration: float, **details: object) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda x: x * 3 + 1)(np.arange(17.0))
    assert len(compiled) == 1  # the listener hears compilations
    rng = np.random.default_rng(2)

    def items() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in range(200):
            height, width = 20 + number % 97, 150 - number % 101
            yield photo(height, width), square_hole(height, width, int(rng.integers(2, 19)))

    assert len(list(inpainter.batch(items(), feather=2))) == 200
    assert len(compiled) == 1

    large = photo(700, 700)

    def larger_items() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in range(120):
            height, width = 600 + number % 97, 700 - number % 101
            yield large[:height, :width].copy(), square_hole(height, width, 9)

    before = 0
    for number, _ in enumerate(inpainter.batch(larger_items(), strategy="resize")):
        if number == 20:
            before = resident_bytes()
    assert len(compiled) == 1
    # The pictures since then are 100 times 1.2 MB, their fillings as much again.
    assert resident_bytes() - before < 40e6


def resident_bytes() -> int:
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def test_threads_share_one_inpainter() -> None:
    items = [(photo(60, 60, k), square_hole(60, 60, 10 + k)) for k in range(4)]
    inpainter = small_inpainter()
    wanted = [image_of(inpainter(*item)) for item in items]
    found: list[list[np.ndarray]] = [[] for _ in items]

    def work(number: int) -> None:
        for _ in range(5):
            found[number].append(image_of(inpainter(*items[number])))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, images in enumerate(found):
        assert len(images) == 5
        for image in images:
            np.testing.assert_array_equal(image, wanted[number])


def test_the_device_is_the_one_asked_for() -> None:
    inpainter = Inpainter(small_pretrained(), device="cpu", max_batch=7)
    assert (inpainter.device, inpainter.max_batch, inpainter.size) == ("cpu", 4, SIZE)
    assert (inpainter.sha256, inpainter.source) == (small_pretrained().sha256, "test")
    with pytest.raises(UserError, match="device tpu: JAX finds none here, only cpu"):
        Inpainter(small_pretrained(), device="tpu")
    with pytest.raises(UserError, match="'cuda'; use one of: auto, cpu, gpu, tpu"):
        Inpainter(small_pretrained(), device="cuda")
    with pytest.raises(UserError, match="max_batch 0"):
        Inpainter(small_pretrained(), max_batch=0)


def test_weights_that_are_not_finite_are_refused() -> None:
    good = small_pretrained()
    nothing = jax.tree.map(lambda leaf: leaf * np.float32("nan"), good.variables)
    broken = dataclasses.replace(good, variables=nothing)
    with pytest.raises(UserError, match="not finite"):
        Inpainter(broken)(photo(SIZE, SIZE), square_hole(SIZE, SIZE, 4))


def test_a_phone_photo_goes_through_files(tmp_path: pathlib.Path) -> None:
    image, exif = Image.fromarray(photo(90, 120)), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, quality=95)
    hole = square_hole(120, 90, 30)
    result = small_inpainter()(buffer.getvalue(), Image.fromarray(hole), feather=4).images[0]
    assert isinstance(result, Image.Image) and result.size == (90, 120)
    result.save(tmp_path / "filled.png", exif=result.info["exif"])
    with Image.open(buffer) as stored, Image.open(tmp_path / "filled.png") as filled:
        wanted = np.rot90(np.asarray(stored), -1)
        np.testing.assert_array_equal(np.asarray(filled)[~hole], wanted[~hole])
        assert filled.getexif().get(0x0112, 1) == 1 and filled.getexif()[0x010F] == "a maker"


def test_it_reads_its_own_weights_without_tensorflow(tmp_path: pathlib.Path) -> None:
    small_inpainter().save_pretrained(tmp_path / "weights")
    code = """
        import sys
        import gmsrm_jax
        assert "jax" not in sys.modules
        import numpy as np
        inpainter = gmsrm_jax.Inpainter.from_pretrained(sys.argv[1], device="cpu")
        image = np.arange(40 * 40 * 3, dtype=np.uint16).astype(np.uint8).reshape(40, 40, 3)
        np.save(sys.argv[2], inpainter(image, np.eye(40) > 0, seed=4).images[0])
        heavy = {"tensorflow", "tensorflow_datasets", "clu", "orbax"}
        heavy |= {"pandas", "matplotlib", "jinja2"}
        print(inpainter.sha256, sorted(heavy & set(sys.modules)))
    """
    image = np.arange(40 * 40 * 3, dtype=np.uint16).astype(np.uint8).reshape(40, 40, 3)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path / "weights", tmp_path / "out.npy"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == f"{small_pretrained().sha256} []", done.stderr
    found = np.load(tmp_path / "out.npy").astype(int)
    wanted = small_inpainter()(image, np.eye(40) > 0, seed=4).images[0]
    # The exported folder leaves out how far LLVM optimises, and so rounding may differ.
    assert np.abs(found - wanted).max() <= 1


def test_a_large_picture_tells_how_far_it_is_and_can_be_ended_within() -> None:
    image, hole = photo(150, 160), square_hole(150, 160, 60)
    told: list[tuple[float, int]] = []
    result = small_inpainter()(image, hole, 2, progress=lambda *pair: told.append(pair))
    assert result.strategy == "detail"
    shares = [done for done, _ in told]
    assert {total for _, total in told} == {2}
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] == 2
    # Within a sample, not only after it.
    assert len({share for share in shares if 0 < share < 2}) >= 3
    steps = itertools.count()

    def stop() -> None:
        if next(steps) == 5:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        small_inpainter()(image, hole, on_step=stop)


def test_file_objects_and_arrays_of_jax_are_taken(tmp_path: pathlib.Path) -> None:
    image, hole = photo(20, 24), square_hole(20, 24, 8)
    wanted = image_of(small_inpainter()(image, hole))
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    written = io.BytesIO()
    Image.fromarray(hole).save(written, "PNG")  # and stands at its end
    with path.open("rb") as file:
        result = small_inpainter()(file, written)
        np.testing.assert_array_equal(image_of(result), wanted)
    result = small_inpainter()(jnp.asarray(image), jnp.asarray(hole), seed=jnp.int32(0))
    assert isinstance(result.images[0], np.ndarray)
    np.testing.assert_array_equal(result.images[0], wanted)
    result = small_inpainter()(memoryview(path.read_bytes()), memoryview(written.getvalue()))
    np.testing.assert_array_equal(image_of(result), wanted)


def closed_file() -> io.BytesIO:
    file = io.BytesIO()
    file.close()
    return file


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "of type NoneType; give a path"),
        ([[1]], "of type list; give a path"),
        (5, "of type int; give a path"),
        (object(), "of type object; give a path"),
        (io.StringIO("words"), 'a file opened as text; open it as bytes, with "rb"'),
        (closed_file(), "cannot be read"),
        (jnp.zeros((4, 4), jnp.bfloat16), "an array of bfloat16"),
        ("A" * 5000, "cannot be read"),
    ],
)
def test_what_is_no_source_is_named_by_its_argument(source: object, message: str) -> None:
    image, hole = photo(20, 20), square_hole(20, 20, 5)
    with pytest.raises(UserError) as caught:
        small_inpainter()(source, hole)
    assert message in str(caught.value) and str(caught.value).startswith(("picture: ", "AAA"))
    assert len(str(caught.value)) < 300
    with pytest.raises(UserError) as caught:
        small_inpainter()(image, source)
    if source is not None:
        assert message in str(caught.value) and str(caught.value).startswith(("mask: ", "AAA"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, *pair: i(*pair, on_step=5), "on_step: 5 cannot be called"),
        (lambda i, *pair: i(*pair, progress="x"), "progress: 'x' cannot be called"),
        (lambda i, *pair: i.batch(5), "items: 5; give pairs"),
        (lambda i, *pair: list(i.batch([None])), "item 0: NoneType is no pair"),
        (lambda i, *pair: list(i.batch([pair[0]])), "item 0: ndarray is no pair"),
        (lambda i, *pair: list(i.batch([(*pair, 1)])), "item 0: tuple is no pair"),
        (lambda i, *pair: i.warm_up("x"), "batch: 'x'; use"),
        (lambda i, *pair: i.warm_up(0), "batch: 0; use"),
        (lambda i, *pair: i.save_pretrained(None), "folder: None; give"),
        (lambda i, *pair: Inpainter("runs/demo"), "pretrained: 'runs/demo' is no network"),
        (lambda i, *pair: Inpainter(small_pretrained(), max_batch="2"), "max_batch '2'"),
        (lambda i, *pair: Inpainter(small_pretrained(), max_batch=2.5), "max_batch 2.5"),
        (lambda i, *pair: Inpainter.from_pretrained(5), "name_or_path: 5; give"),
        (lambda i, *pair: save_picture(None, "x.png"), "picture: of type NoneType"),
        (lambda i, *pair: save_picture(pair[0], 5), "path: 5; give"),
        (lambda i, *pair: save_picture(pair[0] / 255, "x.png"), "an array of float64"),
        (lambda i, *pair: save_picture(pair[0], "/proc/x/y.png"), "/proc/x/y.png: cannot be wri"),
    ],
)
def test_every_wrong_argument_is_named(call: Callable, message: str) -> None:
    with pytest.raises(UserError) as caught:
        call(small_inpainter(), photo(20, 20), square_hole(20, 20, 5))
    assert message in str(caught.value)


def test_compiled_programs_are_kept_as_the_commands_keep_them(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    option = "jax_compilation_cache_dir"
    before = jax.config.values[option]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "gmsrm-jax" / "xla"
    try:
        jax.config.update(option, None)
        for _ in range(2):
            Inpainter(small_pretrained(), device="cpu")
        assert jax.config.values[option] == str(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert capsys.readouterr().err.count(f"compiles the network, unless it is in {folder}") == 1
        jax.config.update(option, str(tmp_path / "of the program"))
        Inpainter(small_pretrained(), device="cpu")
        assert jax.config.values[option] == str(tmp_path / "of the program")
        # A user without a home is told, and served.
        jax.config.update(option, None)
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
        Inpainter(small_pretrained(), device="cpu")
        assert "no compile cache" in capsys.readouterr().err
    finally:
        jax.config.update(option, before)
