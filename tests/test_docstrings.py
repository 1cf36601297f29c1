"""Docstrings: public names are documented by hand, with an example, and what is named exists."""

import ast
import builtins
import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import grumo_jax

ROOT = Path(grumo_jax.__file__).parent


def list_modules():
    found = pkgutil.walk_packages([str(ROOT)], "grumo_jax.")
    return ["grumo_jax", *(module.name for module in found)]


MODULES = list_modules()
# The command line is a program, and what packages deeper down export is for their neighbours.
PACKAGES = ["grumo_jax"] + [
    module.name
    for module in pkgutil.iter_modules([str(ROOT)], "grumo_jax.")
    if module.ispkg and module.name != "grumo_jax.cli"
]


@functools.cache
def parse(module):
    return ast.parse(Path(importlib.util.find_spec(module).origin).read_text())


# --- public names


def exported(package):
    """What a package exports: `import x as x`, and what it defines itself without underscore."""
    for node in parse(package).body:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name == alias.asname)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def public_things():
    """Each class and function that a package exports, once, by the first name it has."""
    found = {}
    for package in PACKAGES:
        for name in exported(package):
            thing = getattr(importlib.import_module(package), name)
            if inspect.isclass(thing) or inspect.isroutine(thing):
                found.setdefault(thing, f"{package}.{name}")
    return {name: thing for thing, name in found.items()}


PUBLIC = public_things()


def test_the_public_names_are_found():
    assert len(PUBLIC) > 140
    assert PUBLIC["grumo_jax.DepthErrors"] is grumo_jax.DepthErrors
    assert "grumo_jax.training.train" in PUBLIC
    assert "grumo_jax.synthetic.random_frame" in PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented_with_an_example(name):
    node = definition_of(PUBLIC[name])
    # Of the source, since dataclasses write a docstring where there is none.
    docstring = ast.get_docstring(node) or ""
    assert docstring, f"{name} has no docstring"
    lines = [line for line in docstring.splitlines() if line.lstrip().startswith(">>> ")]
    assert lines, f"{name} has no example"
    assert not all("+SKIP" in line for line in lines), f"nothing of {name}'s example runs"


def definition_of(thing):
    (node,) = (
        node
        for node in parse(thing.__module__).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == thing.__name__
    )
    return node


# --- cross-references
#
# What a docstring has in single backticks is checked if it is a name, with dots or without, or a
# call of one. Its first part must be one of
# - a parameter, variable or member of what is documented, or of what that stands in;
# - a name of the docstring's module, or of any other module of the library;
# - a module that can be imported;
# - a word of Python's, or a string in the library's code, such as the value of an option.
# Of a class or a module the other parts must be members of it.

IN_BACKTICKS = re.compile(r"(?<!`)`([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?`(?!`)")
USUAL = {
    "jnp": "jax.numpy",
    "nn": "flax.linen",
    "linen": "flax.linen",
    "nnx": "flax.nnx",
    "tfds": "tensorflow_datasets",
}


def docstrings(module):
    """(docstring, the nodes it stands in, the inmost last) of all that a module documents."""
    pending = [(parse(module),)]
    while pending:
        within = pending.pop()
        if docstring := ast.get_docstring(within[-1]):
            yield docstring, within
        inner = [
            node for node in within[-1].body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ]
        pending += [(*within, node) for node in inner]


def names_within(node):
    """Parameters, variables and members of a function or class."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.arg):
            found.add(child.arg)
        elif isinstance(child, ast.Name):
            found.add(child.id)
        elif isinstance(child, ast.Attribute):
            found.add(child.attr)
        elif isinstance(child, ast.FunctionDef | ast.ClassDef):
            found.add(child.name)
    return found


@functools.cache
def library():
    """{name: what modules of the library call so}, and the strings in their code."""
    named, strings = {}, set()
    for module in MODULES:
        for name, thing in vars(importlib.import_module(module)).items():
            named.setdefault(name, []).append(thing)
        for node in ast.walk(parse(module)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
    return named, strings


def members(thing):
    """Names of a class's or module's members, fields of dataclasses included."""
    annotated = inspect.get_annotations(thing) if inspect.isclass(thing) else {}
    return {*dir(thing), *annotated, *getattr(thing, "__dataclass_fields__", {})}


def has(thing, parts):
    if not parts or not (inspect.isclass(thing) or inspect.ismodule(thing)):
        return True
    if parts[0] in members(thing):
        return has(getattr(thing, parts[0], None), parts[1:])
    try:
        return has(importlib.import_module(f"{thing.__name__}.{parts[0]}"), parts[1:])
    except (ImportError, AttributeError):
        return False


def exists(reference, within):
    first, *rest = reference.split(".")
    if any(first in names_within(node) for node in within[1:]):
        return True
    named, strings = library()
    if any(has(thing, rest) for thing in named.get(first, ())):
        return True
    if hasattr(builtins, first) or reference in strings:
        return True
    try:
        return has(importlib.import_module(USUAL.get(first, first)), rest)
    except ImportError:
        return False


@pytest.mark.parametrize("module", MODULES)
def test_cross_references_name_what_exists(module):
    missing = [
        f"{getattr(within[-1], 'name', module)}: {reference}"
        for docstring, within in docstrings(module)
        for reference in IN_BACKTICKS.findall(docstring)
        if not exists(reference, within)
    ]
    assert not missing


@pytest.mark.parametrize(
    "reference", ["Estimator.estimat", "predict_view", "jax.vmapp", "nn.Convv"]
)
def test_misspelt_references_are_found(reference):
    _, within = next(docstrings("grumo_jax.references"))
    assert not exists(reference, within)


@pytest.mark.parametrize(
    "reference",
    ["Estimator.estimate", "Estimate.depth", "wrap", "jax.vmap", "grumo_jax._internal.hosts.join"],
)
def test_references_that_exist_are_found(reference):
    _, within = next(docstrings("grumo_jax.references"))
    assert exists(reference, within)
