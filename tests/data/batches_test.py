"""Batches: a pure function of seed and step, each example once, errors and ends that are clean."""

import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import cv2
import numpy as np
import pytest

from dmlcsr_jax.data import augmentation, geometry, label_sets, sources, synthetic, warp
from dmlcsr_jax.data import batches as batches_lib
from dmlcsr_jax.errors import UserError

HELEN = label_sets.HELEN
# Twenty-two examples in batches of eight: two batches an epoch, six examples left over.
SOURCE = synthetic.SyntheticSource(22, 48, seed=1)
STILL = augmentation.Augmentation(scale_std=0, rotation_prob=0, mirror_prob=0)


def open_train(
    source=SOURCE,
    augmentation=augmentation.Augmentation(),  # noqa: B008
    seed=3,
    image_size=40,
    batch_size=8,
    **options,
):
    return batches_lib.train_batches(
        source,
        label_set=HELEN,
        image_size=image_size,
        augmentation=augmentation,
        batch_size=batch_size,
        seed=seed,
        **options,
    )


def train(count, **options):
    with open_train(**options) as batches:
        return [next(batches) for _ in range(count)]


def stacked(batches):
    return [np.concatenate([b["image"], b["label"][..., None]], axis=-1) for b in batches]


def evaluate(batch_size, source=SOURCE, **options):
    return list(
        batches_lib.eval_batches(
            source, label_set=HELEN, image_size=40, batch_size=batch_size, **options
        )
    )


def test_shapes_and_types():
    (batch,) = train(1)
    assert set(batch) == {"image", "label"}
    assert batch["image"].shape == (8, 40, 40, 3)
    assert batch["label"].shape == (8, 40, 40)
    assert batch["image"].dtype == batch["label"].dtype == np.uint8


def test_a_batch_may_be_one_example():
    batches = train(22, batch_size=1)
    assert batches[0]["image"].shape == (1, 40, 40, 3)
    # The same examples in the same order as in batches of two, less their augmentation.
    ones = stacked(train(6, batch_size=1, augmentation=STILL))
    twos = stacked(train(3, batch_size=2, augmentation=STILL))
    np.testing.assert_array_equal(np.concatenate(ones), np.concatenate(twos))


def test_any_start_and_any_process_count_give_the_same_global_batches():
    whole = stacked(train(7))
    np.testing.assert_array_equal(stacked(train(3, start_step=4)), whole[4:])
    for count in (2, 4):
        shares = [stacked(train(7, process_index=i, process_count=count)) for i in range(count)]
        together = [np.concatenate(parts) for parts in zip(*shares, strict=True)]
        np.testing.assert_array_equal(together, whole)


def test_two_workers_give_the_same_batches():
    whole = stacked(train(6))
    np.testing.assert_array_equal(stacked(train(5, num_workers=2, start_step=1)), whole[1:])
    assert not multiprocessing.active_children()


def test_without_shared_memory_threads_give_the_same_batches(monkeypatch, caplog):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with open_train(num_workers=3) as batches:
        found = [next(batches) for _ in range(2)]
        assert not multiprocessing.active_children()
    assert "reading in 3 threads" in caplog.text
    np.testing.assert_array_equal(stacked(found), stacked(train(2)))


def test_seed_decides_order_and_augmentation():
    first, again, other = (stacked(train(2, seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).mean() > 0.5


def test_each_epoch_is_a_new_order_of_distinct_examples():
    fitted = {}
    for index in range(22):
        matrix = geometry.box_matrix(geometry.photograph_box((48, 48)), 40)
        fitted[warp.warp_image(SOURCE[index]["image"], matrix, 40).tobytes()] = index
    orders = []
    for epoch in range(6):
        batches = train(2, augmentation=STILL, start_step=2 * epoch)
        orders.append([fitted[image.tobytes()] for batch in batches for image in batch["image"]])
        assert len(set(orders[-1])) == 16
    assert len({tuple(order) for order in orders}) == 6
    # What one epoch drops, others show.
    assert set().union(*orders) == set(range(22))


def test_each_epoch_is_augmented_anew():
    one = synthetic.SyntheticSource(8, 48)
    epochs = [stacked(train(1, source=one, start_step=step))[0] for step in range(3)]
    views = {view.tobytes() for epoch in epochs for view in epoch}
    assert len(views) == 24


@pytest.mark.parametrize("batch_size", [1, 5, 8, 22, 40])
def test_evaluation_counts_each_example_once(batch_size):
    indices = []
    for batch in evaluate(batch_size):
        assert batch["image"].shape == (batch_size, 40, 40, 3)
        assert len(batch["label"]) == len(batch["name"]) == batch_size
        for row in range(batch_size):
            if not batch["mask"][row]:
                assert batch["index"][row] == -1
                assert (batch["label"][row] == 255).all()
                continue
            index = int(batch["index"][row])
            example = SOURCE[index]
            indices.append(index)
            assert batch["name"][row] == example["name"]
            np.testing.assert_array_equal(batch["label"][row], example["label"])
            matrix = geometry.box_matrix(geometry.photograph_box((48, 48)), 40)
            np.testing.assert_array_equal(batch["matrix"][row], matrix)
            np.testing.assert_array_equal(
                batch["image"][row], warp.warp_image(example["image"], matrix, 40)
            )
    assert indices == list(range(22))


@pytest.mark.parametrize(("count", "batch_size"), [(2, 6), (4, 12), (4, 64)])
def test_evaluation_over_processes_counts_each_example_once(count, batch_size):
    shares = [evaluate(batch_size, process_index=i, process_count=count) for i in range(count)]
    assert len({len(share) for share in shares}) == 1
    seen = [
        int(index) for share in shares for batch in share for index in batch["index"][batch["mask"]]
    ]
    assert sorted(seen) == list(range(22))


def test_evaluation_in_a_worker_is_the_same():
    alone, helped = evaluate(6), evaluate(6, num_workers=1)
    assert len(alone) == len(helped) == 4
    for one, two in zip(alone, helped, strict=True):
        assert one["name"] == two["name"]
        for key in ("image", "mask", "matrix", "index"):
            np.testing.assert_array_equal(one[key], two[key])
        for label_one, label_two in zip(one["label"], two["label"], strict=True):
            np.testing.assert_array_equal(label_one, label_two)


class TwoSizes:
    """Images of one size with labels of half of it, as CelebAMask-HQ ships them."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        image, label = synthetic.draw_face(index, 64)
        return {"image": image, "label": np.ascontiguousarray(label[::2, ::2]), "name": "x"}


def test_evaluation_matrix_is_the_labels():
    (batch,) = evaluate(2, source=TwoSizes())
    assert batch["label"][0].shape == (32, 32)
    np.testing.assert_array_equal(
        batch["matrix"][0], geometry.box_matrix(geometry.photograph_box((32, 32)), 40)
    )


def test_sets_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"22 examples.*batch of 64"):
        batches_lib.num_train_steps_per_epoch(22, 64)
    assert batches_lib.num_train_steps_per_epoch(22, 8) == 2
    with pytest.raises(UserError, match=r"5 examples.*batch of 8"):
        train(1, source=synthetic.SyntheticSource(5, 48))
    with pytest.raises(UserError, match="batch size is 0"):
        evaluate(0)
    with pytest.raises(UserError, match=r"batch size is 8.*multiple of the 3 processes"):
        train(1, process_count=3)
    with pytest.raises(UserError, match=r"batch size is 9.*multiple of the 2 processes"):
        evaluate(9, process_count=2)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_example_ends_in_its_own_sentence(tmp_path, num_workers):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for index in range(8):
        image, label = synthetic.draw_face(index, 48)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.jpg"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / "labels" / f"{index}.png"), label)
    (tmp_path / "train_list.txt").write_text("\n".join(map(str, range(8))))
    source = sources.FolderSource(tmp_path, "train", HELEN)
    path = tmp_path / "images" / "5.jpg"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"images/5\.jpg is cut off") as caught:
        train(2, source=source, num_workers=num_workers)
    with pytest.raises(UserError) as direct:
        source[5]
    assert str(caught.value) == str(direct.value)
    assert not multiprocessing.active_children()


def test_closed_batches_are_at_an_end():
    batches = open_train()
    next(batches)
    batches.close()
    batches.close()
    assert list(batches) == []


class LargeLabels:
    """Labels that fill a pipe."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        image, _ = synthetic.draw_face(index % 2, 48)
        return {"image": image, "label": np.zeros((130, 130), np.uint8), "name": "x"}


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_workers_with_full_buffers_end_by_themselves(kind):
    for _ in range(4):
        if kind == "train":
            batches = open_train(image_size=64, num_workers=2)
        else:
            batches = batches_lib.eval_batches(
                LargeLabels(), label_set=HELEN, image_size=32, batch_size=8, num_workers=2
            )
        with batches:
            for _ in range(3):
                next(batches)
            workers = multiprocessing.active_children()
            assert len(workers) == 2
            time.sleep(0.5)  # They work ahead, and wait for somebody to read on.
        # One that did not end when told is killed, if its half message has not kept us waiting.
        assert [worker.exitcode for worker in workers] == [0, 0]
        # The batches made ahead are given back at once, too.
        end = time.monotonic() + 20
        while "/dev/shm/psm_" in pathlib.Path("/proc/self/maps").read_text():
            assert time.monotonic() < end
            time.sleep(0.1)


def test_a_sigterm_to_all_processes_leaves_the_workers():
    """As Slurm and systemd send it; from a worker's first moment on."""
    expected = train(12)
    done, num_sent = threading.Event(), 0

    def signal_the_workers():
        nonlocal num_sent
        while not done.wait(0.01):
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGTERM)
                num_sent += 1

    sender = threading.Thread(target=signal_the_workers)
    sender.start()
    try:
        found = train(12, num_workers=2)
    finally:
        done.set()
        sender.join()
    assert num_sent > 10
    np.testing.assert_array_equal(stacked(found), stacked(expected))
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def run_script(body, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
        cwd=pathlib.Path(__file__).parents[2],
    )


def test_workers_need_no_jax():
    # What a worker imports must do without JAX: here its import fails.
    result = run_script(
        """
        import sys
        sys.modules["jax"] = None
        from dmlcsr_jax.data import augmentation, batches as batches_lib, sources, synthetic
        from dmlcsr_jax.data.label_sets import HELEN
        batches = batches_lib.train_batches(
            synthetic.SyntheticSource(4, 48), label_set=HELEN, image_size=32,
            augmentation=augmentation.Augmentation(), batch_size=4, seed=0,
        )
        print(next(batches)["image"].shape)
        """
    )
    assert result.stdout.strip() == "(4, 32, 32, 3)", result.stderr
    # Batches left open end in silence.
    assert "Exception" not in result.stderr
