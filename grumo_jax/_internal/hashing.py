"""SHA-256 of what is stored: bytes, files, JSON, and trees of arrays."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def hash_bytes(*parts: Any) -> str:
    """The hash of bytes, or buffers of them, one after the other, in hexadecimal digits.

    >>> hash_bytes(b"a", b"b") == hash_bytes(b"ab")
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def hash_file(file: Path) -> str:
    """The hash of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_json(content: Any) -> str:
    """The hash of what JSON can hold, however it is laid out.

    >>> hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    True
    """
    return hash_bytes(json.dumps(content, sort_keys=True).encode())


def content_hash(configuration: dict[str, Any], variables: Any) -> str:
    """The hash of a configuration and of the name, dtype, shape and bytes of every leaf.

    >>> content_hash({}, {"a": np.zeros(2)}) == content_hash({}, {"a": np.zeros((2, 1))})
    False
    """
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode())
    leaves, _ = jax.tree.flatten_with_path(variables)
    for key_path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.ascontiguousarray(_as_numbers(leaf))
        digest.update(f"{jax.tree_util.keystr(key_path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _as_numbers(leaf: Any) -> Any:
    """A leaf as it is, or the numbers of a PRNG key, such as those of an NNX network's dropout."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf
