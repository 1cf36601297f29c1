"""Libraries of the extra `data`, imported when they are needed and not before."""

import importlib
import warnings
from typing import Any

from grumo_jax.errors import DataError


def need(module: str, purpose: str) -> Any:
    """Import a module of the extra `data`.

    Args:
        module: its name.
        purpose: what it is needed for, as the subject of a sentence.

    Raises:
        DataError: if it is not installed.

    >>> need("no_such_module", "reading minds")
    Traceback (most recent call last):
    grumo_jax.errors.DataError: reading minds needs no_such_module; pip install 'grumo-jax[data]'
    """
    try:
        with warnings.catch_warnings():
            # Deprecations inside these libraries are nothing a user of this one can mend.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{purpose} needs {module}; pip install 'grumo-jax[data]'") from error
