"""Reading ahead: order, shards, resuming, damage."""

import itertools
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from layouts import write_drive

from grumo_jax.data import KittiRaw, Loaded, Problem, Sample, at_most, load
from grumo_jax.data.sample import fingerprint
from grumo_jax.errors import DataError

pytest.importorskip("grain", reason="grain is not installed (extra: data)")


class Numbers:
    """A source whose pictures hold their own index; some are damaged, early ones are slow."""

    name, missing, crop = "numbers", (), None

    def __init__(self, count, damaged=()):
        self.ids = tuple(f"number {n}" for n in range(count))
        self.fingerprint = fingerprint(self.name, self.ids)
        self.damaged, self.read = damaged, []

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        self.read.append(index)
        if index in self.damaged:
            raise DataError(f"file {index}: damaged")
        time.sleep(0.002 * (index % 3 == 0))
        return Sample(self.ids[index], np.full((2, 3, 3), index, np.uint8))


@pytest.mark.parametrize(("limit", "chosen"), [(1, [0]), (3, [0, 3, 6]), (4, [0, 2, 5, 7])])
def test_a_part_is_taken_at_even_distances(limit, chosen):
    part = at_most(Numbers(10), limit)
    assert [int(sample.image[0, 0, 0]) for sample in part] == chosen
    assert part.ids == tuple(f"number {n}" for n in chosen)
    assert len(at_most(Numbers(10), 99)) == len(at_most(Numbers(10), None)) == 10


def first_pixel(sample):
    return int(sample.image[0, 0, 0])


def order(source, **options):
    return [item.index for item in load(source, first_pixel, **options)]


def test_in_order_whatever_the_workers():
    source = Numbers(20)
    for workers in (0, 1, 2, 5):
        items = list(load(source, first_pixel, workers=workers))
        assert items == [Loaded(n, f"number {n}", n) for n in range(20)]


def test_a_problem_of_the_transform_names_the_sample():
    def crop(sample):
        raise DataError(f"{sample.id}: too small" if sample.image[0, 0, 0] else "too small")

    items = list(load(Numbers(3, damaged=[2]), crop))
    assert [item.sentence for item in items] == [
        "number 0: too small", "number 1: too small", "file 2: damaged"
    ]  # fmt: skip


def test_shuffled_the_same_way_by_any_number_of_workers():
    source = Numbers(20)
    orders = [order(source, workers=workers, shuffle_seed=7) for workers in (0, 1, 3)]
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == list(range(20)) != orders[0]
    assert order(source, shuffle_seed=8) != orders[0]


def test_shards_share_the_work():
    source = Numbers(11)
    shards = [order(source, shuffle_seed=1, shard=(n, 3)) for n in range(3)]
    assert [len(shard) for shard in shards] == [4, 4, 3]
    whole = order(source, shuffle_seed=1)
    assert [whole[n::3] for n in range(3)] == shards
    assert order(source, shard=(12, 13)) == []


def test_epochs_differ_and_are_resumed_without_reading_what_was_read():
    source = Numbers(10)
    endless = load(source, first_pixel, shuffle_seed=5, repeat=True)
    first = [item.index for item in itertools.islice(endless, 30)]
    endless.close()
    epochs = [first[n : n + 10] for n in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    for start in (0, 4, 10, 17):
        again = load(source, first_pixel, shuffle_seed=5, repeat=True, start=start)
        assert [item.index for item in itertools.islice(again, 13)] == first[start : start + 13]
        again.close()
    source = Numbers(10)
    assert order(source, start=7) == [7, 8, 9]
    assert sorted(source.read) == [7, 8, 9]
    assert order(source, start=10) == order(source, start=99) == []


def some(number, **options):
    """The indices of the first samples of an endless order."""
    with closing(load(Numbers(7), first_pixel, shuffle_seed=5, repeat=True, **options)) as items:
        return [item.index for item in itertools.islice(items, number)]


def test_the_endless_order_is_dealt_out_in_blocks():
    whole = some(36)
    shards = [some(12, shard=(n, 3), block=2) for n in range(3)]
    assert [whole[2 * n : 2 * n + 2] + whole[2 * n + 6 : 2 * n + 8] for n in range(3)] == [
        shard[:4] for shard in shards
    ]
    assert sorted(whole) == sorted(itertools.chain(*shards))
    assert some(5, shard=(1, 3), block=2, start=7) == shards[1][7:]
    ends = [order(Numbers(8), shard=(n, 2), block=3) for n in range(2)]
    assert ends == [[0, 1, 2, 6, 7], [3, 4, 5]]


def test_damage_comes_in_its_place():
    items = list(load(Numbers(5, damaged=(1, 4)), first_pixel))
    assert items[1] == Problem(1, "number 1", "file 1: damaged")
    assert [type(item) for item in items] == [Loaded, Problem, Loaded, Loaded, Problem]
    assert [item.value for item in items if isinstance(item, Loaded)] == [0, 2, 3]
    assert [item.index for item in items if isinstance(item, Problem)] == [1, 4]


def test_a_programming_error_is_not_hidden():
    def broken(sample):
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        list(load(Numbers(3), broken))


def test_stopping_early_leaves_no_thread_reading():
    source = Numbers(500)
    items = load(source, first_pixel, workers=2)
    next(items)
    items.close()
    time.sleep(0.05)
    count = len(source.read)
    time.sleep(0.1)
    assert len(source.read) == count < 100
    assert threading.active_count() < 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers is -1 and start 0; expected 0 or more"),
        ({"start": -1}, "workers is 2 and start -1"),
        ({"shuffle_seed": -1}, "shuffle_seed is -1; expected 0 to"),
        ({"shard": (2, 2)}, r"shard is \(2, 2\); expected \(i, n\)"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(DataError, match=message):
        load(Numbers(3), **options)


PROCESSES = """
import sys
from grumo_jax.data import KittiRaw, load

def shape(sample):
    return sample.image.shape

if __name__ == "__main__":
    items = load(KittiRaw(sys.argv[1]), shape, workers=2, processes=True)
    print([(item.index, getattr(item, "value", None)) for item in items])
"""


@pytest.mark.slow
def test_processes(tmp_path):
    folder = write_drive(tmp_path, range(0, 65, 16), scans=range(0, 65, 16))
    source = KittiRaw(tmp_path)
    (folder / "image_02" / "data" / "0000000016.png").write_bytes(b"")
    expected = [(i.index, getattr(i, "value", None)) for i in load(source, _shape)]
    assert expected[1] == (1, None)
    script = tmp_path / "script.py"
    script.write_text(PROCESSES)
    result = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == str(expected), result.stderr


def _shape(sample):
    return sample.image.shape


def test_importing_the_package_imports_no_extra():
    code = (
        "import sys, grumo_jax.data, grumo_jax.cli\n"
        "extras = 'tensorflow', 'tensorflow_datasets', 'grain', 'array_record', 'h5py'\n"
        "print([name for name in extras if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
