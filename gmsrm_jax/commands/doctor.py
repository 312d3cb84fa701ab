"""`gmsrm doctor`: look at the installation, or verify checkpoints.

Prints versions, devices, the compile cache, disk space, bundled files and optional packages. With
--checkpoint it verifies every file of saved weights instead.

Exit status: 0 everything is fine; 1 something needs a look, marked with !; with --checkpoint 2: a
checkpoint is broken, or there is none.
"""

import argparse
import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
from collections.abc import Iterator

import gmsrm_jax
from gmsrm_jax.assets import BUNDLED_NETWORKS, asset_path
from gmsrm_jax.checkpoints.steps import has_manifest, problems, step_folders
from gmsrm_jax.commands import Subparsers, add_command
from gmsrm_jax.runtime.counts import count_of
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path
from gmsrm_jax.runtime.sha256sums import (
    MAX_SUMS_BYTES,
    SUMS_FILE,
    difference,
    parse_sums,
    read_limited,
)

_DISTRIBUTION = "gmsrm-jax"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")
_TENSORFLOW = ("tensorflow", "tensorflow-cpu")
# What requirements/fill.txt leaves out of all that the package requires.
_BEYOND_FILLING = ("clu", "importlib_resources", "tensorboard", *_TENSORFLOW, "tensorflow-datasets")
_NETWORKS = tuple(f"weights/{name}" for name in BUNDLED_NETWORKS)
_ASSETS = ("facades/train", "facades/test", "facades/test_masks_64.npz", "vgg19", *_NETWORKS)
# What an exported network cannot be read without; the modules that read one need JAX.
_NETWORK_FILES = ("config.json", "model.safetensors")
_CACHE_OPTION = "jax_compilation_cache_dir"
_ENOUGH_DISK = 5e9  # bytes: three checkpoints of a run at 256 px, and an evaluation


def add_parser(subparsers: Subparsers) -> None:
    """Adds `doctor`."""
    parser = add_command(subparsers, "doctor", __doc__, run)
    parser.add_argument(
        "--checkpoint",
        metavar="NAME|PATH",
        help=f"{' or '.join(BUNDLED_NETWORKS)}, a workdir, a stage's folder, a folder of"
        f" checkpoints, one checkpoint, or an exported folder with {SUMS_FILE}",
    )


def run(args: argparse.Namespace) -> int:
    """Prints what it finds; returns the exit status."""
    if args.checkpoint in BUNDLED_NETWORKS:
        return _verify(asset_path(f"weights/{args.checkpoint}"))
    if args.checkpoint is not None:
        return _verify(user_path(args.checkpoint, "--checkpoint"))
    needs_a_look = 0
    for section in (_versions, _extras, _devices, _compile_cache, _disk, _assets):
        for line in section():
            print(line)
            needs_a_look += line.startswith("!")
    print(f"marked with ! for a look: {needs_a_look}" if needs_a_look else "nothing needs a look")
    return 1 if needs_a_look else 0


def _verify(path: pathlib.Path) -> int:
    """Verifies all that is saved at a path; returns the exit status."""
    if not path.exists():
        raise UserError(f"{path} does not exist; name a workdir such as runs/demo")
    found: dict[pathlib.Path, list[str]] = {}
    if (path / SUMS_FILE).is_file():
        found[path] = problems_of_network(path)
    elif has_manifest(path) or path.name.isdigit():
        found[path] = problems(path)
    else:
        for folder in (path, path / "checkpoints", *sorted(path.glob("*/checkpoints"))):
            found |= _steps(folder) if folder.is_dir() else {}
    if not found:
        raise UserError(
            f"no checkpoint in {path}; name a workdir such as runs/demo, a folder of checkpoints, "
            f"one checkpoint, or an exported folder with {SUMS_FILE}"
        )
    for step, wrong in found.items():
        print(f"{step}: {'BROKEN' if wrong else 'OK'}, {_size(step)}")
        for line in wrong:
            print(f"  {line}")
    broken = sum(bool(wrong) for wrong in found.values())
    print(f"{broken} of {len(found)} broken" if broken else f"all {len(found)} good")
    return 2 if broken else 0


def problems_of_network(folder: pathlib.Path) -> list[str]:
    """What is wrong with an exported network: its SHA256SUMS and what that lists."""
    path = folder / SUMS_FILE
    cure = "export the network again"
    try:
        sums = parse_sums(read_limited(path, MAX_SUMS_BYTES, cure), str(path), cure)
    except UserError as error:
        return [str(error)]
    unlisted = [f"{SUMS_FILE} does not list {name}" for name in _NETWORK_FILES if name not in sums]
    checked = [difference(folder, name, digest) for name, digest in sums.items()]
    return [*unlisted, *(wrong for wrong in checked if wrong)]


def _steps(folder: pathlib.Path) -> dict[pathlib.Path, list[str]]:
    """What is wrong with each step of a folder; says which are none yet, or no longer."""
    for entry in sorted(folder.iterdir()):
        if entry.suffix.startswith((".broken", ".unfinished")):
            print(f"{entry}: set aside by a training, not looked at")
    steps = list(step_folders(folder).values())
    if steps and not has_manifest(steps[-1]) and any(map(has_manifest, steps)):
        print(f"{steps.pop()}: unfinished, is being saved now or was cut off; it is not used")
    return {step: problems(step) for step in steps}


def _versions() -> Iterator[str]:
    yield (
        f"gmsrm-jax {gmsrm_jax.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}"
    )
    for name in _PACKAGES:
        version = _version(name)
        yield f"  {name} {version}" if version else f"! {name} is missing: pip install {name}"
    tensorflow = [f"{name} {_version(name)}" for name in _TENSORFLOW if _version(name)]
    lacking = "no tensorflow: training needs data.pipeline=arrays, evaluation a mask list"
    yield f"  {tensorflow[0] if tensorflow else lacking}"


def _extras() -> Iterator[str]:
    """What is missing of the package's requirements, and one line for each extra.

    Extras that only select a kind of JAX have none.
    """
    try:
        required = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        yield f"  {_DISTRIBUTION} runs from its folder, not installed: optional packages not known"
        return
    extras: dict[str, list[str]] = {"": []}
    for line in required:
        found = re.match(r"""([\w.-]+)([^;]*)(?:;.*extra == ["']([\w-]+)["'])?""", line)
        if found and "[" not in found[2]:
            extras.setdefault(found[3] or "", []).append(found[1])
    # Of TensorFlow's two distributions, which have one name to Python, one is enough.
    there = {*_PACKAGES, _TENSORFLOW[1], *(_TENSORFLOW if any(map(_version, _TENSORFLOW)) else ())}
    missing = [name for name in extras.pop("") if name not in there and not _version(name)]
    for name in missing:
        if name not in _BEYOND_FILLING:
            yield f"! {name} is missing: pip install {name}, or -r requirements/fill.txt"
    beyond = ", ".join(name for name in missing if name in _BEYOND_FILLING)
    if beyond:
        yield f"  training from folders: without {beyond}: pip install {_DISTRIBUTION}"
    for extra, names in sorted(extras.items()):
        missing_there = ", ".join(name for name in names if not _version(name))
        install = f"without {missing_there}: pip install '{_DISTRIBUTION}[{extra}]'"
        yield f"  extra {extra}: {install if missing_there else ', '.join(names)}"


def _devices() -> Iterator[str]:
    # Only a look: no memory is taken from a training on the same card.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        yield f"! JAX finds no device: {reason}; look at the driver, or set JAX_PLATFORMS=cpu"
        return
    for device in devices:
        memory = (device.memory_stats() or {}).get("bytes_limit")
        shown = f", {memory / 1e9:.1f} GB for JAX" if memory else ""
        yield f"  device {device.id}: {device.device_kind} ({device.platform}){shown}"
    if devices[0].platform == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        yield f"  {os.cpu_count()} CPU cores, {memory / 1e9:.1f} GB of memory"
        chosen = os.environ.get("JAX_PLATFORMS")
        if chosen:
            yield f"  JAX_PLATFORMS={chosen} is set"
        elif sorted(pathlib.Path("/dev").glob("nvidia[0-9]*")):
            yield (
                "! an NVIDIA card is there, but JAX uses the CPU: "
                f"pip install '{_DISTRIBUTION}[cuda13]', or [cuda12] for an older driver"
            )


def _compile_cache() -> Iterator[str]:
    import jax

    from gmsrm_jax.runtime.jax_setup import set_up_jax

    set_up_jax("default")
    name = getattr(jax.config, _CACHE_OPTION)
    folder = pathlib.Path(name or "")
    if not name:
        yield "! no compile cache: every start compiles anew; set JAX_COMPILATION_CACHE_DIR"
    elif not folder.is_dir():
        yield f"  compile cache {folder}: not made yet"
    else:
        status = folder.stat()
        mode = status.st_mode & 0o777
        line = f"compile cache {folder}: {_size(folder)}, mode {mode:o}"
        if mode & 0o022 or status.st_uid != os.getuid():
            yield f"! {line}; others can put programs there: use a folder of your own with mode 700"
        else:
            yield f"  {line}"


def _disk() -> Iterator[str]:
    folder = pathlib.Path.cwd()
    free = shutil.disk_usage(folder).free
    mark = " " if free >= _ENOUGH_DISK else "!"
    yield f"{mark} disk: {free / 1e9:,.1f} GB free in {folder}"


def _assets() -> Iterator[str]:
    for name in _ASSETS:
        try:
            path = asset_path(name)
        except UserError:
            yield f"! bundled {name} is missing: reinstall {_DISTRIBUTION}"
            continue
        damaged = name in _NETWORKS and problems_of_network(path)
        cure = f"! bundled {name} is damaged: reinstall {_DISTRIBUTION}"
        yield cure if damaged else f"  bundled {name}: {_size(path)}"


def _size(path: pathlib.Path) -> str:
    """How many files there are, and how large they are together."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return f"{count_of(len(files), 'file')}, {size / 1e6:,.1f} MB"


def _version(name: str) -> str:
    """The installed version of a package, or nothing; the package is not imported."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
