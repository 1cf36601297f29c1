"""Photos with points of known depth in one file, for looking whether findings hold elsewhere."""

import dataclasses
import io
import sys

import numpy as np
import pytest
import real_folders
from PIL import Image
from real_folders import PointPhotos


@pytest.fixture
def scenes(tmp_path):
    """Two photos of 4×6 pixels, the second made smaller: its points are in pixels of 8×12."""
    streams = [io.BytesIO(), io.BytesIO()]
    for value, stream in enumerate(streams):
        Image.new("RGB", (6, 4), (value, 9, 9)).save(stream, "PNG")
    photos = [np.frombuffer(stream.getvalue(), np.uint8) for stream in streams]
    np.savez(
        tmp_path / "scenes.npz",
        png=np.concatenate(photos),
        png_off=np.cumsum([0, *map(len, photos)]),
        rows=np.array([0, 3, 7, 6], np.uint16),
        cols=np.array([1, 5, 11, 10], np.uint16),
        depth=np.array([2, 3, 40, 30], np.float32),
        off=np.array([0, 2, 4]),
        size=np.array([[4, 6], [8, 12]]),
        scene=np.array(["street", "room"]),
    )
    return PointPhotos(tmp_path / "scenes.npz")


def test_points_become_maps_of_the_photos_size(scenes):
    assert scenes.ids == ("0_street", "1_room")
    first, second = (scenes[i] for i in range(len(scenes)))
    assert second.image.shape == (4, 6, 3)
    assert (second.image == (1, 9, 9)).all()
    expected = np.zeros((4, 6))
    expected[0, 1], expected[3, 5] = 2, 3
    np.testing.assert_array_equal(first.depth, expected)
    # Both points of the second fall on its last pixel, and what is nearer hides what is behind.
    np.testing.assert_array_equal(second.depth, np.pad([[30]], ((3, 0), (5, 0))))


def test_another_file_is_another_source(scenes):
    copy = scenes.path.with_name("more.npz")
    copy.write_bytes(scenes.path.read_bytes())
    assert dataclasses.replace(scenes, path=copy).fingerprint != scenes.fingerprint


def test_photos_are_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["real_folders.py", "--weights", "w.npz", "--photos", "rgb"])
    with pytest.raises(SystemExit, match="2"):
        real_folders.main()
    assert "give --photos and --depth, or --points" in capsys.readouterr().err
