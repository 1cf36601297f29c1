"""What `import grumo_jax` brings along, and what it leaves to those who ask for it."""

import json
import subprocess
import sys

import pytest

PICTURES, COMMANDS = ("matplotlib",), ("typer", "click")
OTHERS = ("pandas", "jinja2", "pydantic", "torch", "optax", "tensorflow", "flax.nnx")
PROGRAM = """
import importlib, json, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps([name for name in json.loads(sys.argv[1]) if name in sys.modules]))
"""


def loaded(among, *modules):
    """Which of some modules are there after others were imported, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(among), *modules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


def test_the_library_needs_neither_pictures_nor_the_command_line():
    assert loaded([*PICTURES, *COMMANDS, *OTHERS], "grumo_jax") == []


@pytest.mark.slow
@pytest.mark.parametrize("room", ["data", "evaluation", "ablation", "metrics", "synthetic"])
def test_measuring_needs_no_pictures(room):
    assert loaded([*PICTURES, *COMMANDS, *OTHERS], f"grumo_jax.{room}") == []
