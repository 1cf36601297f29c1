"""Lazy imports of the libraries in the extra `data`."""

import importlib
import warnings
from typing import Any

from grumo_jax.errors import DataError


def need(module: str, purpose: str) -> Any:
    """Import a module of the extra `data`.

    Args:
        module: name of the module.
        purpose: what it is needed for, as the subject of the error's sentence.

    Raises:
        DataError: if the module is not installed.

    >>> need("no_such_module", "reading minds")
    Traceback (most recent call last):
    grumo_jax.errors.DataError: reading minds needs no_such_module; pip install 'grumo-jax[data]'
    """
    try:
        with warnings.catch_warnings():
            # Users cannot fix deprecations inside these libraries.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{purpose} needs {module}; pip install 'grumo-jax[data]'") from error
