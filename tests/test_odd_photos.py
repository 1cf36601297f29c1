"""Photos, and what lies among them, that one would not expect."""

import io
import os
import warnings

import numpy as np
import pytest
from PIL import Image

import grumo_jax
from grumo_jax import plots
from grumo_jax._internal.files import walk_files
from grumo_jax.errors import GrumoWarning, ImageError
from grumo_jax.images import find_images, read_image, read_turned
from grumo_jax.report.pages import plot_case

PHOTO = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def save(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        PHOTO.save(file, format="PNG")


def test_linked_folders_are_followed_once_and_loops_end(tmp_path):
    save(tmp_path / "set/a.png", tmp_path / "set/day1/x.png", tmp_path / "elsewhere/b.png")
    (tmp_path / "set/day2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/again").symlink_to(tmp_path / "set/day1")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "set")
    assert list(find_images([tmp_path / "set"])) == ["a", "day1/x", "day2/b"]
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert len(find_images([tmp_path / "link"])) == 3


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    save(tmp_path / "set/a.png", tmp_path / "set/locked/b.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(GrumoWarning, match="locked: permission denied; what is in it is left out"):
        assert [file.name for file in walk_files(tmp_path / "set")] == ["a.png"]


def test_kinds_that_are_not_read_are_counted_and_named(tmp_path):
    save(tmp_path / "a.png")
    for name in ("b.gif", "c.GIF", "d.HEIC", "film.mp4", "notes.txt", ".hidden.gif"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(
        GrumoWarning, match=r"^4 files of kinds that are not read: .gif \(2\), .heic, .mp4; save"
    ):
        assert list(find_images([tmp_path])) == ["a"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"no images in this folder .*; 4 files of kinds that"):
        find_images([tmp_path])


@pytest.mark.parametrize("place", ["out", "out/photos", "link"])
def test_results_may_not_hold_the_photos(tmp_path, place):
    save(tmp_path / "out/photos/a.png", tmp_path / "out/b.png")
    (tmp_path / "link").symlink_to(tmp_path / "out/photos")
    with pytest.raises(ImageError, match=r"the photos lie in .*out, whose files do not count"):
        find_images([tmp_path / place], leave_out=tmp_path / "out")


def test_clashing_and_strange_names(tmp_path):
    save(tmp_path / "x\x1b[2J\n.png", tmp_path / "\u202egpj.png", tmp_path / "सच्\u200dचा.png")
    assert list(find_images([tmp_path])) == [r"x\x1b[2J\n", "सच्\u200dचा", r"\u202egpj"]
    save(tmp_path / r"x\x1b[2J\n.png")
    with pytest.raises(ImageError, match=r"would both be called .*; rename one of them") as error:
        find_images([tmp_path])
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_in_a_name(tmp_path):
    try:
        save(tmp_path / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    (name,) = find_images([tmp_path])
    assert name == r"caf\udce9"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("film.mp4", b"\0\0\0\x18ftypisom", r"\.mp4 files are not read; save it as"),
        ("still.gif", b"GIF89a", r"\.gif files are not read"),
        ("phone.jpg", b"\0\0\0\x18ftypheic", "a HEIC picture, which is not read"),
        ("film", b"\x1aE\xdf\xa3....", r"a film \(MKV or WebM\), which is not read"),
        ("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage", "a PostScript file, which is not"),
        ("notes.txt", b"hello", r"no photo of a kind that is read \(.jpg, "),
        ("photo.png", b"hello", "damaged or no image$"),
    ],
)
def test_what_is_no_photo_is_called_what_it_is(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=f"{name}: {message}"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_an_animation_is_no_photo(tmp_path, kind):
    other = PHOTO.transpose(Image.Transpose.ROTATE_90)
    PHOTO.save(tmp_path / f"a.{kind}", save_all=True, append_images=[other] * 2)
    with pytest.raises(ImageError, match=r"[23] pictures in one file, an animation or pages; s"):
        read_image(tmp_path / f"a.{kind}")


def test_a_phones_photo_with_a_second_picture_is_one(tmp_path):
    PHOTO.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[PHOTO])
    assert read_image(tmp_path / "a.jpg").shape == (4, 4, 3)


def test_pipes_devices_and_folders_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    assert sorted(find_images([tmp_path])) == ["gone", "pipe", "zero"]
    for name, message in {
        "pipe": "a pipe, device or socket, not a file",
        "zero": "a pipe, device or socket, not a file",
        "gone": "no such file or directory",
        "folder": "a folder, not a file",
    }.items():
        with pytest.raises(ImageError, match=f"{name}.png: {message}"):
            read_image(tmp_path / f"{name}.png")


def test_orientation_is_told(tmp_path):
    exif = Image.Exif()
    for orientation in (1, 3, 9):
        exif[0x0112] = orientation
        PHOTO.save(tmp_path / "a.png", exif=exif)
        assert read_turned(tmp_path / "a.png")[1] == (3 if orientation == 3 else 1)


@pytest.mark.parametrize(
    "size",
    [
        (20_000, 108),
        (1, 5000),
        *(pytest.param(s, marks=pytest.mark.slow) for s in ((5000, 1), (1, 1))),
    ],
)
def test_figures_are_bounded(size):
    image, maps = np.zeros((*size, 3), np.uint8), np.ones(size)
    figures = [
        plots.plot_panel(image, maps, maps, title="a"),
        plots.plot_gallery([(image, maps, maps)]),
        plot_case(image, maps, maps, {"post": maps}, mask=maps > 0, title="a"),
    ]
    for figure in figures:
        assert max(figure.get_size_inches()) < 45
        drawn = [picture for axes in figure.axes for picture in axes.images]
        assert drawn
        assert all(max(p.get_array().shape[:2]) <= plots.MOST_DRAWN for p in drawn)
    with warnings.catch_warnings():
        # Of a picture of one pixel's width nothing is left beside its title.
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        figures[0].savefig(io.BytesIO(), dpi=20)


@pytest.mark.parametrize(
    "title",
    [
        "a$\\frac{$b",
        "x\x1b[2J",
        pytest.param("$x^$", marks=pytest.mark.slow),
        pytest.param("5$ and 6$", marks=pytest.mark.slow),
    ],
)
def test_names_are_no_formulas(title):
    image, maps = np.zeros((8, 12, 3)), np.ones((8, 12))
    case = plot_case(image, maps, maps, {title: maps}, title=title, measure=title)
    panel = plots.plot_panel(image, maps, maps, title=title)
    for figure in (case, panel):
        figure.savefig(io.BytesIO(), dpi=20)
        assert figure.get_suptitle() == title.replace("\x1b", "\\x1b")
    axes = plots.plot_image(image, title=title)[1]
    axes.figure.savefig(io.BytesIO(), dpi=20)


def test_predict_goes_on_after_odd_files(grumo, checkpoint, tmp_path):
    photos = tmp_path / "photos"
    save(photos / "ok.png", photos / "x\x1b[2J\n.png", photos / f"{'n' * 248}.png")
    os.mkfifo(photos / "pipe.png")
    (photos / "film.mp4").write_bytes(b"x")
    options = ("--estimator", "post", "--format", "npz", "--format", "png", "--out")
    status, out, errors = grumo("predict", checkpoint, photos, *options, tmp_path / "out")
    assert status == 1
    assert out.startswith("2 of 4 photos done")
    assert "grumo: 1 file of a kind that is not read: .mp4" in errors
    assert "pipe.png: a pipe, device or socket, not a file\n" in errors
    assert "n.png: no results can have its name: File name too long" in errors
    assert "\x1b" not in out + errors
    assert (tmp_path / "out" / r"x\x1b[2J\n.npz").is_file()


def test_results_do_not_take_the_place_of_photos(grumo, checkpoint, tmp_path):
    save(tmp_path / "a.png", tmp_path / "a_depth.png")
    status, _, errors = grumo(
        "predict", checkpoint, tmp_path / "a.png", tmp_path / "a_depth.png", "--out", tmp_path
    )
    assert status == 2
    assert "a_depth.png: a result of" in errors
    with pytest.raises(grumo_jax.GrumoError, match="the photos lie in"):
        find_images([tmp_path], leave_out=tmp_path)
