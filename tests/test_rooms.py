"""The house: rooms import downwards only, no file is in a circle, no room above knows a method.

Every module is parsed, none is run, so that imports inside functions count as those at the top do.
"""

import ast
import functools
import graphlib
import pathlib

PACKAGE = pathlib.Path(__file__).parent.parent / "gmsrm_jax"
# From low to high; rooms of one line do not import each other.
FLOORS = (
    "runtime",
    "assets",
    "foreign",
    "nn",
    "metrics data",
    "methods",
    "config",
    "checkpoints",
    "networks",
    "training",
    "inference export evaluation",
    "report",
    "serve study",
    "commands",
    "cli main __init__",
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
# Both give names of other modules when they are first asked for, and import none by themselves.
LAZY = ("__init__.py", "data/masks/__init__.py")
METHODS_FLOOR = FLOOR["methods"]
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@functools.cache
def tree(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def room(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def file_of(module: str) -> str | None:
    """The file of a module by its full name, if it is one of the package."""
    path = module.removeprefix("gmsrm_jax").removeprefix(".").replace(".", "/")
    for file in (f"{path}.py", f"{path}/__init__.py".removeprefix("/")):
        if file in FILES:
            return file
    return None


def imports(file: str) -> list[tuple[int, str]]:
    """Line and file of everything of the package that a module imports, wherever in it."""
    found = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import; name the package"
            inner = [f"{node.module}.{name.name}" for name in node.names]
            # What is no module of its own is a name in the module that is imported from.
            names = [name if file_of(name) else str(node.module) for name in inner]
        else:
            continue
        version_alone = isinstance(node, ast.Import) or [n.name for n in node.names] == [
            "__version__"
        ]
        for name in names:
            if name.split(".")[0] != "gmsrm_jax" or (name == "gmsrm_jax" and version_alone):
                continue
            target = file_of(name)
            assert target, f"{file}:{node.lineno}: {name} is no module"
            found.append((node.lineno, target))
    return found


def code_strings(file: str) -> list[tuple[int, str]]:
    """Line and value of the strings that are no docstrings; parts of f-strings among them."""
    texts = {
        id(node.value)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
    ]


def test_every_room_has_its_floor():
    rooms = {room(file) for file in FILES}
    assert rooms == set(FLOOR)
    assert len([file for file in FILES if "/" not in file]) <= 6


def test_rooms_import_downwards_only():
    upwards = {
        f"{file}:{line} imports {target}"
        for file in FILES
        if file not in LAZY
        for line, target in imports(file)
        if room(file) != room(target) and FLOOR[room(target)] >= FLOOR[room(file)]
    }
    assert not upwards, "\n".join(sorted(upwards))


def test_no_file_imports_itself_by_way_of_others():
    below = {file: {t for _, t in imports(file)} for file in FILES if file not in LAZY}
    graphlib.TopologicalSorter(below).prepare()  # raises CycleError, which names the files


def test_no_file_is_long():
    lines = {file: (PACKAGE / file).read_text(encoding="utf-8").count("\n") for file in FILES}
    assert not {file: count for file, count in lines.items() if count > 400}


def test_no_code_above_the_methods_names_one():
    """Neither as a string, nor as a name, nor by importing its module."""
    from gmsrm_jax.methods import METHODS  # the others run without any package but pytest

    names = {name for name, method in METHODS.items() if method.stages is not None}
    assert names
    known = []
    for file in FILES:
        if FLOOR[room(file)] <= METHODS_FLOOR or file in LAZY:
            continue
        words = [(line, text) for line, text in code_strings(file) if text in names]
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Name | ast.Attribute):
                words.append((node.lineno, node.id if isinstance(node, ast.Name) else node.attr))
        parts = [(line, pathlib.PurePath(t).with_suffix("").parts) for line, t in imports(file)]
        words += [(line, part[1]) for line, part in parts if part[0] == "methods" and part[1:]]
        known += [f"{file}:{line} knows {word}" for line, word in words if word in names]
    assert not known, "\n".join(known)
