"""Known answers: fillings and losses that a change of the code's shape must not change.

Only what people use is asked here: the class `Inpainter`, the commands `gmsrm` and
`python -m gmsrm_jax.main`, the REST call, and the graph files of an export.

    python tests/test_known_answers.py --record    # where the numbers are meant to change

writes fillings.npz and losses.json anew. It leaves alone what stands for files that people have:
format_1/, an exported folder, and workdir.tar.gz, a workdir's config.json and last checkpoint. Both
are of gmsrm-jax 0.1.0 (5b0113d) and of one training:

    python -m gmsrm_jax.main --config=configs/paris.py:runlocal --workdir=run \
        --config.tensorboard=False --config.data.train=bundled:facades/train \
        --config.data.test_fraction=0.0 --config.data.validation_count=8 \
        --config.model.channel_base=128 --config.model.channel_max=8 --config.model.code_dim=8 \
        --config.model.code_channels=4 --config.inpainting.discriminator_features=4,8,8,8 \
        --config.inpainting.learning_rate=0.005 --config.inpainting.epochs=2.0
    gmsrm export --checkpoint run --output format_1 --dtype float16
"""

import base64
import functools
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import onnxruntime
import pytest
from jax import export
from PIL import Image

from gmsrm_jax import Inpainter
from gmsrm_jax.cli import main

ROOT = pathlib.Path(__file__).parent.parent
ANSWERS = pathlib.Path(__file__).parent / "references" / "known_answers"
FILLINGS, LOSSES = ANSWERS / "fillings.npz", ANSWERS / "losses.json"
RECORDING = "RECORD_KNOWN_ANSWERS" in os.environ
# The command as it is installed, with the code that lies beside the tests.
GMSRM = pathlib.Path(sys.executable).with_name("gmsrm")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
BUNDLED = "facades-128"
PATIENCE = 900  # seconds


class Case(NamedTuple):
    """A picture, its holes as (top, bottom, left, right), and how they are filled.

    The strategy is always named, since what "auto" means may change.
    """

    photo: str
    holes: list[tuple[int, int, int, int]]
    strategy: str
    seed: int
    num_samples: int = 1

    @property
    def image(self) -> np.ndarray:
        return np.asarray(Image.open(ANSWERS / f"{self.photo}.png"))

    @property
    def hole(self) -> np.ndarray:
        hole = np.zeros(self.image.shape[:2], bool)
        for top, bottom, left, right in self.holes:
            hole[top:bottom, left:right] = True
        return hole


CASES = {
    "whole": Case("facade_128x128", [(30, 78, 50, 96), (100, 104, 8, 120)], "resize", 3),
    "scaled": Case("facade_300x200", [(60, 130, 110, 190)], "resize", 1),
    "windows": Case("facade_300x200", [(60, 110, 40, 100), (120, 180, 230, 290)], "crop", 1),
    "bands": Case("facade_300x200", [(40, 160, 90, 240)], "tile", 2),
    "samples": Case("facade_128x128", [(40, 90, 30, 80)], "crop", 5, num_samples=2),
}
SINGLE = [name for name, case in CASES.items() if case.num_samples == 1]
# For the small network of the files that people have.
SMALL = Case("facade_128x128", [(20, 60, 30, 70)], "crop", 4)


def compare(name: str, case: Case, images: list[np.ndarray]) -> None:
    """Compares fillings with the recorded ones; known pixels must be those of the picture."""
    wanted = np.load(FILLINGS)[name]
    assert len(images) == len(wanted)
    for image in images:
        assert (image.dtype, image.shape) == (np.uint8, case.image.shape)
        np.testing.assert_array_equal(image[~case.hole], case.image[~case.hole])
    found = np.stack([image[case.hole] for image in images])
    difference = np.abs(found.astype(int) - wanted)
    # Equal where they were recorded. XLA takes other vector widths on another CPU, and a value
    # that lies halfway between two levels may then be rounded to the other one.
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= difference.size / 1000


def check(name: str, case: Case, inpainter: Inpainter) -> None:
    result = inpainter(
        case.image, case.hole, case.num_samples, seed=case.seed, strategy=case.strategy
    )
    images = [np.asarray(image) for image in result.images]
    if RECORDING:
        there = dict(np.load(FILLINGS)) if FILLINGS.exists() else {}
        there[name] = np.stack([image[case.hole] for image in images])
        np.savez_compressed(FILLINGS, **there)
    compare(name, case, images)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def gmsrm(*options: str | pathlib.Path) -> None:
    done = subprocess.run(
        [GMSRM, *options], env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr


# Another number of devices is another order of sums, and so is another kind of CPU: what differs
# by 1e-7 at the first step of Adam differs by 1e-3 after nine. The instructions are those that
# every x86 CPU of today has.
TRAINING_FLAGS = (
    "--xla_force_host_platform_device_count=4 --xla_cpu_max_isa=AVX2"
    " --xla_llvm_disable_expensive_passes=true"
)
STEPS = 5
TOLERANCE = {"memory": 1e-3, "inpainting": 1e-2}  # stage 2 begins where stage 1 drifted to
TRAINING = [
    "--config=configs/paris.py:runlocal",
    "--config.seed=0",
    "--config.log_every=1",
    "--config.tensorboard=False",
    # It compiles in half the time.
    "--config.xla_optimization_level=0",
    # The network of before. Recorded again when style mixing's partners moved half a batch away;
    # until then the losses were those of the version before, step by step.
    "--config.model.fusion_rescale=True",
    "--config.model.memory_at_full_size=False",
    "--config.model.noise_limit=clip",
    "--config.model.head_rate=0.0",
    "--config.model.query_pool=0",
    # 401 pictures, of which none is tested on: no evaluation follows.
    "--config.data.train=bundled:facades/train",
    "--config.data.test_fraction=0.0",
    "--config.data.validation_bounds=8,8",
    "--config.memory.validation_samples=8",
    "--config.memory.length_kimg=0.04",
    "--config.inpainting.epochs=0.1",
    *(
        f"--config.{stage}.{event}_every=1000"
        for stage in ("memory", "inpainting")
        for event in ("save", "validate")
    ),
]


@pytest.fixture(scope="module", autouse=True)
def training(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen, pathlib.Path] | None]:
    """The training whose losses are known, where they are asked for: half of this file's time.

    So it runs beside the other tests.
    """
    names = {item.name for item in request.session.items if item.path == request.path}
    if test_first_losses_of_both_stages.__name__ not in names:
        yield None
        return
    workdir = tmp_path_factory.mktemp("training") / "run"
    kept = {
        name: value
        for name, value in ENVIRONMENT.items()
        if not name.startswith(("JAX_", "XLA_")) or name.startswith("JAX_COMPILATION_CACHE")
    }
    with (workdir.parent / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gmsrm_jax.main", f"--workdir={workdir}", *TRAINING],
            cwd=ROOT,
            env={**kept, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": TRAINING_FLAGS},
            stdout=output,
            stderr=output,
        )
        try:
            yield process, workdir
        finally:
            process.kill()
            process.wait()


@functools.cache
def bundled() -> Inpainter:
    return Inpainter.from_pretrained(BUNDLED, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_python(name: str) -> None:
    check(name, CASES[name], bundled())


@pytest.mark.slow
def test_shell(tmp_path: pathlib.Path) -> None:
    case = CASES["windows"]
    (tmp_path / "image.png").write_bytes(png(case.image))
    (tmp_path / "mask.png").write_bytes(png(case.hole))
    files = ["--image", tmp_path / "image.png", "--mask", tmp_path / "mask.png"]
    how = ["--seed", str(case.seed), "--strategy", case.strategy, "--device", "cpu"]
    how += ["--checkpoint", BUNDLED]
    gmsrm("inpaint", *files, "--output", tmp_path / "filled.png", *how)
    compare("windows", case, [np.asarray(Image.open(tmp_path / "filled.png"))])


@pytest.mark.slow
def test_rest(tmp_path: pathlib.Path) -> None:
    server = subprocess.Popen(
        [GMSRM, "serve", "--port", "0", "--device", "cpu", "--checkpoint", BUNDLED],
        stdout=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
    )
    try:
        assert server.stdout is not None
        found = (re.search(r"http://\S+:\d+/", line) for line in server.stdout)
        url = next(match[0] for match in found if match)
        for name in SINGLE:
            case = CASES[name]
            fields = {
                "image": base64.b64encode(png(case.image)).decode(),
                "mask": base64.b64encode(png(case.hole)).decode(),
                "seed": case.seed,
                "strategy": case.strategy,
            }
            request = urllib.request.Request(
                f"{url}api/v1/inpaint",
                json.dumps(fields).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                compare(name, case, [np.asarray(Image.open(io.BytesIO(answer.read())))])
    finally:
        server.kill()
        server.communicate()


@pytest.mark.slow
def test_graph_files(tmp_path: pathlib.Path) -> None:
    out, case = tmp_path / "out", CASES["whole"]
    words = ["export", "--checkpoint", BUNDLED, "--output", str(out), "--onnx", "--stablehlo"]
    assert main(words) == 0
    program = export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    image = case.image[None].astype(np.float32) / 127.5 - 1
    mask = case.hole[None, ..., None].astype(np.float32)
    # The noise of a seed, as `Inpainter` draws it for the first square of a picture.
    shapes = [(1, *aval.shape[1:]) for aval in program.in_avals[2:]]
    keys = jax.random.split(jax.random.fold_in(jax.random.key(case.seed), 0), len(shapes))
    noise = [
        np.asarray(jax.random.normal(key, shape)) for key, shape in zip(keys, shapes, strict=True)
    ]
    filled = np.asarray(program.call(image, mask, *noise))
    compare("whole", case, [pixels(filled)])
    session = onnxruntime.InferenceSession(
        str(out / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]
    feed = dict(zip(names, [image, mask, *noise], strict=True))
    found = session.run(None, feed)[0]
    # What an export allows, or nothing is written.
    np.testing.assert_allclose(found, filled, rtol=0, atol=1e-3)
    assert np.abs(pixels(found).astype(int) - pixels(filled)).max() <= 1


def pixels(filled: np.ndarray) -> np.ndarray:
    return np.rint((filled[0] + 1) * 127.5).clip(0, 255).astype(np.uint8)


def test_an_exported_folder_of_format_1() -> None:
    check("format_1", SMALL, Inpainter.from_pretrained(ANSWERS / "format_1", device="cpu"))


def test_a_workdir_of_format_1_is_read_or_refused(tmp_path: pathlib.Path) -> None:
    with tarfile.open(ANSWERS / "workdir.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    workdir = tmp_path / "run"
    try:
        inpainter = Inpainter.from_pretrained(workdir, device="cpu")
    except Exception as error:
        # By its name, since where the class lies may change.
        if RECORDING or type(error).__name__ != "UserError":
            raise
        assert str(workdir) in str(error) and "\n" not in str(error)
        return
    check("workdir", SMALL, inpainter)


@pytest.mark.slow
def test_first_losses_of_both_stages(
    training: tuple[subprocess.Popen, pathlib.Path],
) -> None:
    process, workdir = training
    status = process.wait(PATIENCE)
    assert status == 0, (workdir.parent / "output.txt").read_text()
    found = {stage: logged_losses(workdir / stage) for stage in ("memory", "inpainting")}
    if RECORDING:
        LOSSES.write_text(json.dumps(found, indent=1) + "\n")
    wanted = json.loads(LOSSES.read_text())
    assert found.keys() == wanted.keys()
    for stage, lines in wanted.items():
        assert len(found[stage]) == len(lines) == STEPS
        for step, (line, losses) in enumerate(zip(found[stage], lines, strict=True), 1):
            assert line == pytest.approx(losses, rel=TOLERANCE[stage], abs=1e-4), (
                f"{stage}, step {step}"
            )


def logged_losses(folder: pathlib.Path) -> list[dict[str, float]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[:STEPS]
    return [
        {name: value for name, value in json.loads(line).items() if name.startswith("loss/")}
        for line in lines
    ]


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        sys.exit("usage: python tests/test_known_answers.py --record")
    sys.exit(
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", __file__],
            cwd=ROOT,
            env={**ENVIRONMENT, "RECORD_KNOWN_ANSWERS": "1"},
        ).returncode
    )
