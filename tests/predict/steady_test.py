"""Frames held steady: the rules in closed form, and the package's model with a face."""

import itertools
import math

import cv2
import numpy as np
import pytest

from dmlcsr_jax.predict import libfacedetection_private, steady
from dmlcsr_jax.predict.face_parser import FaceParser, Photograph
from dmlcsr_jax.predict.faces import Face, as_face
from dmlcsr_jax.predict.steady import Steady
from dmlcsr_jax.predict.views import View

HW = (120, 160)


def scene(seed=0, blots=(12, 16)):
    """Returns uint8 `[*HW, 3]`: blots, unlike those of another seed."""
    small = np.random.default_rng(seed).integers(0, 256, (*blots, 3), np.uint8)
    return cv2.resize(small, HW[::-1], interpolation=cv2.INTER_CUBIC)


def frame(*boxes, image=None):
    faces = [as_face(box) for box in boxes]
    image = scene() if image is None else image
    return Photograph(image, faces, are_found=bool(faces), is_searched=True)


def boxes(photograph):
    return np.array([face.box for face in photograph.faces]).reshape(-1, 4)


def at(x, y=40.0, side=50.0):
    return x, y, x + side, y + side


def test_a_box_that_trembles_stays_and_one_that_moves_is_followed_at_once():
    hold, rng = Steady(), np.random.default_rng(0)
    for _ in range(10):
        found = np.add(at(30), rng.uniform(-1, 1, 4))
        first = boxes(hold.follow(frame(at(30))))
        np.testing.assert_allclose(boxes(hold.follow(frame(tuple(found)))), first, atol=1e-9)
    for step in range(1, 20):
        x = 30 + 3 * step
        held = boxes(hold.follow(frame(at(x))))[0]
        # Behind by the play alone: 0.045 of the side.
        np.testing.assert_allclose(held, at(x - 2.25), atol=1e-9)
    grown = boxes(hold.follow(frame(at(87, side=70))))[0]
    np.testing.assert_allclose(grown[2] - grown[0], 70 / math.exp(0.08))


def test_a_face_whose_eyes_are_near_the_least_roll_is_not_turned_to_and_fro():
    hold = Steady()
    rolls = []
    for degrees in (0, 16, 0, 15.5, 40, 38, 42, -170, 170, 0):
        face = Face(at(30), roll=math.radians(degrees))
        rolls.append(math.degrees(hold.follow(frame(face)).faces[0].roll))
    np.testing.assert_allclose(rolls, [0, 0, 0, 0, 40, 40, 40, -170, 170, 0], atol=1e-9)


def test_faces_keep_their_order_and_new_ones_come_last():
    hold = Steady()
    hold.follow(frame(at(10, side=40), at(100, side=38)))
    # Of the same size now, and the other one is named first.
    found = boxes(hold.follow(frame(at(100, side=40), at(60, 60, 20), at(10, side=38))))
    assert found[:, 0].round().tolist() == [10, 100, 60]


def test_a_missed_face_stays_for_two_frames_where_the_picture_does():
    hold = Steady()
    hold.follow(frame(at(30)))
    assert [len(hold.follow(frame()).faces) for _ in range(4)] == [1, 1, 0, 0]
    assert not frame().are_found
    hold.follow(frame(at(30)))
    kept = hold.follow(frame())
    assert kept.are_found
    np.testing.assert_allclose(boxes(kept), [at(30)])
    changed = scene()
    changed[40:90, 30:80] = scene(1)[40:90, 30:80]
    assert hold.follow(frame(image=changed)).faces == []


def test_another_scene_begins_anew():
    hold = Steady()
    hold.follow(frame(at(30)))
    np.testing.assert_array_equal(boxes(hold.follow(frame(at(31), image=scene(1)))), [at(31)])
    assert hold.follow(frame(image=scene(2))).faces == []
    larger = np.kron(scene(2), np.ones((2, 2, 1), np.uint8))
    hold.follow(frame(at(31), image=scene(2)))
    np.testing.assert_array_equal(boxes(hold.follow(frame(at(32), image=larger))), [at(32)])


def test_boxes_that_are_given_are_taken_as_they_are():
    hold = Steady()
    for x in (30.0, 30.5, 31.0):
        given = Photograph(scene(), [as_face(at(x))])
        np.testing.assert_array_equal(boxes(hold.follow(given)), [at(x)])


# A grid of 31 points, 4 pixels apart, the first 3 pixels from the photograph's corner.
CELLS = 31
MATRIX = np.array([[0.25, 0, -0.75], [0, 0.25, -0.75]])


def parsed(hold, image, scores, matrix=MATRIX, box=None):
    """Returns the scores that a view of the last of a frame's faces gets."""
    photograph = hold.follow(frame(box or at(30), image=image))
    photograph.views = [View(matrix, CELLS, 0, (len(photograph.faces) - 1,), np.float32(scores))]
    return hold.average(photograph).views[0].scores


def noisy(image, rng, deviation=4):
    return np.clip(image + rng.normal(0, deviation, image.shape), 0, 255).astype(np.uint8)


def test_scores_of_a_still_picture_with_noise_move_less_than_their_mean():
    hold, rng = Steady(), np.random.default_rng(0)
    drawn = 0.5 * rng.normal(size=(12, CELLS, CELLS, 5))
    found = [parsed(hold, noisy(scene(), rng), scores) for scores in drawn]
    np.testing.assert_array_equal(found[0], drawn[0].astype(np.float32))
    for number in range(10):
        mean = drawn[: number + 1].mean(axis=0)
        assert np.abs(found[number] - mean).max() <= 1.25 + 1e-5
    # What nothing but noise moves stays.
    assert np.mean(found[-1] == found[0]) > 0.95
    # A step beyond the play is followed: after ten frames and more the mean is the new one.
    for _ in range(40):
        last = parsed(hold, noisy(scene(), rng), drawn[0] + 10)
    np.testing.assert_allclose(last, drawn[0] + 8.75, atol=0.2)


def test_scores_follow_at_once_where_the_picture_changes():
    hold, rng = Steady(), np.random.default_rng(0)
    before, after = np.zeros((CELLS, CELLS, 5)), np.ones((CELLS, CELLS, 5))
    for _ in range(10):
        parsed(hold, noisy(scene(), rng), before)
    image = scene()
    image[30:60, 40:70] = np.roll(image, 6, axis=1)[30:60, 40:70]
    found = parsed(hold, noisy(image, rng), after)
    inside = found[9:13, 12:16]
    assert (inside == 1).mean() > 0.9
    assert (found[20:] == 0).all()
    assert (found[:, 22:] == 0).all()


def test_a_view_that_moves_takes_its_scores_along():
    hold = Steady()
    # Scores that are a ramp over the photograph; then 1 more, which is within the play.
    x, y = np.meshgrid(4 * np.arange(CELLS) + 3, 4 * np.arange(CELLS) + 3)
    ramp = np.stack([0.3 * x + 0.1 * y, 0 * x, 0 * x, 0 * x], axis=2)
    image = scene(blots=(3, 4))
    parsed(hold, image, ramp)
    moved = MATRIX + np.array([[0, 0, 1.5], [0, 0, 0.5]])
    now = ramp - [0.3 * 6 + 0.1 * 2, 0, 0, 0]
    found = parsed(hold, image, now + 1, moved)
    inside = slice(4, -4), slice(5, -5)
    np.testing.assert_allclose(found[inside], now[inside], atol=1e-4)
    # What was not seen before is as it is.
    np.testing.assert_allclose(found[0], now[0] + 1, atol=1e-5)
    np.testing.assert_allclose(found[:, 0], now[:, 0] + 1, atol=1e-5)


def test_scores_are_not_taken_from_another_scene_or_face():
    hold = Steady()
    flat = np.full((*HW, 3), 128, np.uint8)
    zeros, ones = np.zeros((CELLS, CELLS, 5)), np.ones((CELLS, CELLS, 5))
    parsed(hold, flat, zeros)
    assert (parsed(hold, flat, ones, box=at(105)) == 1).all()
    # A corner as it was, all else another scene: what is seen there is no reason.
    cut = scene(1)
    cut[:60, :80] = 128
    assert (parsed(hold, cut, zeros, box=at(105)) == 0).all()


@pytest.mark.parametrize("deviation", [0, 2, 5, 10])
def test_noise_of_any_deviation_is_still_and_a_shift_is_not(deviation):
    rng = np.random.default_rng(0)
    blots = rng.integers(0, 256, (20, 20, 3), np.uint8)
    image = cv2.resize(blots, (97, 97), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    before, now = (image + rng.normal(0, deviation, image.shape).astype(np.float32) for _ in "ab")
    everywhere = np.ones((97, 97), bool)
    assert steady.still(before, now, everywhere).mean() > 0.99
    assert steady.still(before, np.roll(now, 2, axis=1), everywhere).mean() < 0.05
    assert (steady.still(before, now, ~everywhere) == 0).all()


@pytest.fixture(scope="module")
def parser():
    if not libfacedetection_private.is_installed():
        pytest.skip("needs the extra faces")
    return FaceParser()


@pytest.fixture(scope="module")
def astronaut(request):
    return cv2.imread(str(request.config.rootpath / "docs" / "astronaut.jpg"))[..., ::-1].copy()


def results(parser, frames, hold):
    return [result for _, result in parser.results(frames, parser.found, steady=hold)]


def test_a_still_face_with_noise_changes_a_tenth_of_what_it_did(parser, astronaut):
    rng = np.random.default_rng(0)
    frames = [noisy(astronaut, rng) for _ in range(6)]
    maps = [result.label for result in results(parser, frames, Steady())]
    changed = np.mean([(a != b).mean() for a, b in itertools.pairwise(maps)])
    # 0.61 and 2.5 % before.
    assert changed <= 0.00061
    assert (np.stack(maps) != maps[0]).any(axis=0).mean() <= 0.0025


@pytest.mark.parametrize("step", [3, 10])
def test_a_moving_face_is_not_behind(parser, astronaut, step):
    rng = np.random.default_rng(0)
    frames = [noisy(np.roll(astronaut, step * i, axis=1), rng) for i in range(4)]
    held, alone = (results(parser, frames, hold)[1:] for hold in (Steady(), None))
    for parts in (("skin",), ("nose",), ("mouth",), ("l_eye",), ("r_eye",), ("l_eye", "r_eye")):
        for a, b in zip(held, alone, strict=True):
            a, b = (np.logical_or.reduce([one.mask(part) for part in parts]) for one in (a, b))
            behind = np.argwhere(a).mean(axis=0) - np.argwhere(b).mean(axis=0)
            assert np.hypot(*behind) < 2, parts
            # A single eye of 80 pixels is all rim.
            if "eye" not in parts[0] or len(parts) > 1:
                assert (a & b).sum() > 0.8 * (a | b).sum(), parts
