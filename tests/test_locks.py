"""Locks that keep a second process away."""

import sys

import pytest

from grumo_jax._internal.locks import lock_file


def test_one_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    with (tmp_path / "lock").open("a") as first:
        assert lock_file(first)
        with (tmp_path / "lock").open("a") as second:
            assert not lock_file(second)
    with (tmp_path / "lock").open("a") as third:
        assert lock_file(third)


def test_without_fcntl_nothing_is_locked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (tmp_path / "lock").open("a") as first, (tmp_path / "lock").open("a") as second:
        assert lock_file(first)
        assert lock_file(second)
