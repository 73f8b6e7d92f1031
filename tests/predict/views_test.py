"""What the network is shown of a photograph."""

import dataclasses
import math

import numpy as np
import pytest
from colour_network import METADATA

from dmlcsr_jax.data import geometry
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import views
from dmlcsr_jax.predict.faces import Face, as_face
from dmlcsr_jax.predict.views import CLOSE, COMPLETE, WIDE

SIZE = 65


def face(x, y, side, roll=0.0):
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return as_face(Face(box, roll=roll))


def planned(hw, faces, chosen=None, margin=0.5, wide_margin=1.5):
    chosen = range(len(faces)) if chosen is None else chosen
    found = views.plan(hw, faces, chosen, SIZE, margin=margin, wide_margin=wide_margin)
    assert [view.level for view in found] == sorted(view.level for view in found)
    return found


def summary(found):
    return [(view.level, view.faces) for view in found]


def test_a_small_face_has_a_close_a_wide_and_a_complete_view():
    found = planned((900, 1200), [face(600, 300, 40)])
    assert summary(found) == [(CLOSE, (0,)), (WIDE, (0,)), (COMPLETE, (0,))]
    close, wide, person = found
    np.testing.assert_allclose(close.middle, (599.5, 299.5))
    np.testing.assert_allclose([close.side, wide.side], [80, 160])
    # A standing person: 12 faces high, and so wide, most of it below.
    assert person.side == pytest.approx(480)
    assert person.middle[1] - person.side / 2 == pytest.approx(299.5 - 2.5 * 40)


def test_a_larger_face_has_the_photograph_around_it():
    [close, complete] = planned((300, 400), [face(200, 150, 90)])
    assert (close.level, complete.level) == (CLOSE, COMPLETE)
    np.testing.assert_allclose(
        complete.matrix, geometry.box_matrix(geometry.photograph_box((300, 400)), SIZE)
    )
    found = planned((300, 400), [face(200, 150, 60)])
    assert summary(found) == [(CLOSE, (0,)), (WIDE, (0,)), (COMPLETE, (0,))]
    assert found[2].side == pytest.approx(400)


def test_close_views_alone_without_a_wide_margin_or_a_face():
    assert summary(planned((300, 400), [face(200, 150, 40)], wide_margin=0)) == [(CLOSE, (0,))]
    assert planned((300, 400), [face(200, 150, 40)], chosen=[]) == []


def test_near_faces_share_the_wider_views_and_far_ones_do_not():
    near = [face(1000, 500, 50), face(1070, 510, 50)]
    assert summary(planned((2000, 4000), near)) == [
        (CLOSE, (0,)),
        (CLOSE, (1,)),
        (WIDE, (0, 1)),
        (COMPLETE, (0, 1)),
    ]
    wide = planned((2000, 4000), near)[2]
    # All that either wide view shows, and no more than it needs.
    assert wide.side == pytest.approx(270)
    far = [face(500, 500, 50), face(3000, 510, 50)]
    assert [view.faces for view in planned((2000, 4000), far)] == [(0,), (1,)] * 3


def test_several_faces_have_the_photograph_in_common_where_it_shows_them_well():
    # Of a face of 131 pixels the wide view would have 524.
    four = [face(300 + 600 * (i % 2), 300 + 600 * (i // 2), 131) for i in range(4)]
    found = summary(planned((1200, 1200), four))
    assert found == [*((CLOSE, (i,)) for i in range(4)), (COMPLETE, (0, 1, 2, 3))]
    assert (WIDE, (0,)) in summary(planned((1200, 1200), four[:1]))
    crowd = [face(100 + 200 * (i % 20), 100 + 200 * (i // 20), 80) for i in range(100)]
    assert sum(view.level == WIDE for view in planned((1000, 4000), crowd)) > 10


def test_faces_turned_otherwise_do_not_share_a_view():
    found = planned((2000, 4000), [face(1000, 500, 50), face(1070, 510, 50, roll=1.5)])
    assert [view.faces for view in found if view.level == WIDE] == [(0,), (1,)]


def test_views_are_of_the_chosen_faces_alone():
    faces = [face(500, 500, 50), face(1000, 500, 50), face(1500, 500, 50)]
    assert {view.faces for view in planned((2000, 4000), faces, chosen=[1])} == {(1,)}


@pytest.mark.parametrize("degrees", [20, 60, 135, -100, 180])
def test_views_are_levelled_about_the_face(degrees):
    roll = math.radians(degrees)
    for view in planned((2000, 4000), [face(2000, 1000, 50, roll)]):
        assert view.matrix[:, :2] @ (math.cos(roll), math.sin(roll)) == pytest.approx(
            (view.size / view.side, 0), abs=1e-9
        )
    # Of the complete photograph all is shown however it is turned.
    complete = planned((300, 400), [face(200, 150, 90, roll)])[-1]
    corners = np.array([[-0.5, 399.5, -0.5, 399.5], [-0.5, -0.5, 299.5, 299.5]])
    seen = complete.matrix[:, :2] @ corners + complete.matrix[:, 2:]
    assert (seen >= -0.5 - 1e-9).all()
    assert (seen <= SIZE - 0.5 + 1e-9).all()


@pytest.mark.parametrize("angle", [0.0, 0.6])
@pytest.mark.parametrize("factor", [1.3, 3.7, 12.0])
def test_noise_is_averaged_where_a_photograph_is_reduced(angle, factor):
    side = round(SIZE * factor)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    matrix = geometry.box_matrix(
        geometry.photograph_box((side, side)), SIZE, scale=1.5, angle=angle
    )
    shown = views.shown(noise, matrix, SIZE)
    assert shown.shape == (SIZE, SIZE, 3)
    assert shown.mean() == pytest.approx(127.5, abs=2)
    # Single pixels deviate by 74 levels; the mean of n**2 of them by 74 / n.
    if factor > 3:
        assert shown.std() < 1.5 * 74 / (factor / 1.5) + 1


@pytest.mark.parametrize("angle", [0.0, -0.4])
def test_a_reduced_view_is_where_the_matrix_puts_it(angle):
    y, x = np.mgrid[:600, :800]
    image = np.rint(np.stack([x / 4, y / 4, (x + y) / 8], axis=-1)).astype(np.uint8)
    matrix = geometry.box_matrix(np.array([90.0, 40, 700, 560]), SIZE, angle=angle)
    shown = views.shown(image, matrix, SIZE).astype(float)
    there = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    at = np.einsum(
        "ij,jhw->ihw",
        there,
        np.stack([*np.meshgrid(range(SIZE), range(SIZE)), np.ones((SIZE, SIZE))]),
    )
    inside = (at[0] > 12) & (at[0] < 788) & (at[1] > 12) & (at[1] < 588)
    assert inside.mean() > 0.8
    for channel in (0, 1):
        error = abs(shown[..., channel] - at[channel] / 4)[inside]
        # Half a pixel of the view would be 1.2 levels; each of the averages is rounded.
        assert np.median(error) < 0.5
        assert error.max() < 1.5


def test_a_view_beside_the_photograph_is_black():
    image = np.full((500, 700, 3), 200, np.uint8)
    for box in ((-900, 0, -300, 500), (0, 800, 500, 1300), (5000, 5000, 9000, 9000)):
        assert not views.shown(image, geometry.box_matrix(np.array(box), SIZE), SIZE).any()


@pytest.mark.parametrize(
    ("crop_margin", "given", "expected"),
    [
        (None, (None, None), (0.4, 1.5)),
        (0.3, (None, None), (0.3, 0.0)),
        (0.3, (None, 1.0), (0.3, 1.0)),
        (None, (1.5, None), (1.5, 0.0)),
        (None, (0.4, 0), (0.4, 0.0)),
    ],
)
def test_default_margins(crop_margin, given, expected):
    metadata = dataclasses.replace(METADATA, crop_margin=crop_margin)
    assert views.margins(metadata, *given) == expected


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_impossible_margins_are_refused(wrong):
    with pytest.raises(UserError, match=f"the margin is {wrong}; it must be 0 or more"):
        views.margins(METADATA, None, wrong)
