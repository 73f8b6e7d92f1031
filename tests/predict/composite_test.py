"""Views blended to one label map; the truth is in closed form."""

import colour_network
import numpy as np
import pytest
from colour_network import METADATA, interior, picture, truth

from dmlcsr_jax import FaceParser
from dmlcsr_jax.data import geometry
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.predict import composite
from dmlcsr_jax.predict.faces import Face, as_face
from dmlcsr_jax.predict.views import CLOSE, COMPLETE, WIDE, View

CELLS = 33
SKIN, NOSE, HAIR = (HELEN.classes.index(name) for name in ("face_skin", "nose", "hair"))
HW = (120, 160)


def log_probabilities(weights):
    """float32 `[h, h, C]` of what is said at each point, weights `[h, h, C]` above 0."""
    return np.log(weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def view(box, level, faces, part, sure=0.9, roll=0.0):
    """A view that says the same everywhere: `part` with a probability, the rest alike."""
    weights = np.full((CELLS, CELLS, 11), (1 - sure) / 10)
    weights[..., part] = sure
    matrix = geometry.box_matrix(np.array(box) - 0.5, 4 * CELLS - 3, angle=-roll)
    return View(matrix, 4 * CELLS - 3, level, faces, log_probabilities(weights))


def blended(views, faces, hw=HW):
    layers = composite.blend(views, faces, HELEN)
    return composite.label_map(layers, hw), layers


FACE = as_face((60, 40, 100, 80))
BOX = (40, 20, 120, 100)  # With half of its side around it.
ALL = (0, -20, 160, 140)


def depth(hw, box):
    """How deep in a box the pixels lie, as a share of its side; below 0 outside."""
    y, x = np.mgrid[: hw[0], : hw[1]] + 0.5
    inner = np.minimum(np.minimum(x - box[0], box[2] - x), np.minimum(y - box[1], box[3] - y))
    return inner / (box[2] - box[0])


def test_at_its_border_a_close_view_is_what_lies_beneath():
    close = view(BOX, CLOSE, (0,), SKIN, sure=0.95)
    around = view(ALL, COMPLETE, (0,), HAIR, sure=0.6)
    label, layers = blended([close, around], [FACE])
    inside = depth(HW, BOX)
    # Both say the same everywhere, hence weights alone decide: skin's logarithm is ahead by a in
    # the one and hair's by b in the other, and skin wins from weight b / (a + b) on.
    a, b = np.log(0.95 / 0.005), np.log(0.6 / 0.04)
    rise = np.clip(inside / composite._BAND, 0, 1)
    weight = rise * rise * (3 - 2 * rise)
    clear = abs(weight - b / (a + b)) > 0.05
    expected = np.where((weight > b / (a + b)) & (inside >= 0), SKIN, HAIR)
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(label[clear], expected[clear])
    # The first pixel within is still as sure as what lies beneath.
    probability = composite.probability_map(layers, HW, HAIR)
    assert probability[60, 40] == pytest.approx(0.6, abs=0.01)


def test_a_close_view_alone_is_sure_to_its_border():
    label, layers = blended([view(BOX, CLOSE, (0,), SKIN)], [FACE])
    inside = depth(HW, BOX) > 0
    np.testing.assert_array_equal(label == SKIN, inside)
    probability = composite.probability_map(layers, HW, SKIN)
    np.testing.assert_allclose(probability[inside], 0.9, atol=1e-5)
    assert not probability[~inside].any()


@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_linear_scores_stay_linear_where_views_agree(angle):
    """Views of one plane of scores, wherever they lie, come to that plane."""
    slope = np.random.default_rng(0).normal(size=(11, 2)) / 40

    def of(box, level, numbers, roll=0.0):
        one = view(box, level, numbers, 0, roll=roll)
        one.scores = np.ascontiguousarray(
            np.einsum("cj,jhw->hwc", slope, composite._points(one)), np.float32
        )
        # As logits: a constant a point is nothing to a label.
        return one

    views = [of((25, 25, 85, 85), CLOSE, (0,), angle), of((65, 35, 125, 95), CLOSE, (1,))]
    layers = [composite._blended(one, [views[1 - i]], []) for i, one in enumerate(views)]
    for one, layer in zip(views, layers, strict=True):
        half = CELLS // 2
        middle = slice(half - 8, half + 9)
        inner = layer.scores[middle, middle]
        np.testing.assert_allclose(inner, one.scores[middle, middle], atol=0.02)


def test_the_order_of_faces_and_views_does_not_matter():
    rng = np.random.default_rng(1)
    boxes = [(20 + 25 * i, 30 + 6 * i, 50 + 25 * i, 60 + 6 * i) for i in range(4)]
    faces = [as_face(Face(box, roll=0.4 * (i % 2))) for i, box in enumerate(boxes)]

    def views(order):
        made = []
        for new, old in enumerate(order):
            x0, y0, x1, y1 = boxes[old]
            close = (x0 - 15, y0 - 15, x1 + 15, y1 + 15)
            wide = (x0 - 30, y0 - 30, x1 + 30, y1 + 30)
            for level, box in ((CLOSE, close), (WIDE, wide)):
                one = view(box, level, (new,), 0, roll=faces[old].roll)
                one.scores = scores[old, level]
                made.append(one)
        return made

    scores = {
        (i, level): log_probabilities(np.exp(rng.normal(size=(CELLS, CELLS, 11))))
        for i in range(4)
        for level in (CLOSE, WIDE)
    }
    first, layers = blended(views(range(4)), faces)
    owner = composite.owner_map(layers, HW, faces)
    order = [2, 0, 3, 1]
    renamed = [faces[i] for i in order]
    again, layers = blended(views(order)[::-1], renamed)
    np.testing.assert_array_equal(again, first)
    found = composite.owner_map(layers, HW, renamed)
    np.testing.assert_array_equal(found, np.array([0, *(np.argsort(order) + 1)])[owner])


def test_the_background_of_a_close_view_does_not_erase_another_faces_part():
    faces = [as_face((40, 40, 80, 80)), as_face((75, 40, 115, 80))]
    nothing = view((75 - 20, 20, 115 + 20, 100), CLOSE, (1,), 0, sure=0.98)
    face = view((20, 20, 100, 100), CLOSE, (0,), SKIN, sure=0.9)
    # Skin goes on where both look, but for the border of the face's own view.
    for views in ([nothing, face], [face, nothing]):
        label, _ = blended(views, faces)
        assert (label[30:90, 56:92] == SKIN).all()
        assert not label[:, 101:].any()


def test_parts_in_a_wide_view_that_are_nobodys_are_dropped():
    wide = view(ALL, WIDE, (0,), 0)
    weights = np.full((CELLS, CELLS, 11), 0.01)
    weights[..., 0] = 1
    # Five pixels of the photograph are a cell: hair over the face, and a patch far from it.
    weights[8:12, 12:21, HAIR] = 50
    weights[6:10, 27:31, HAIR] = 50
    wide.scores = log_probabilities(weights)
    label, _ = blended([wide], [FACE])
    assert (label[20:36, 60:100] == HAIR).all()
    assert not label[:, 115:].any()


def test_a_wide_view_keeps_what_belongs_to_a_face_of_another_view():
    """The other face has no wide view of its own; the one beside it looks at its hair too."""
    faces = [as_face((20, 50, 40, 70)), as_face((90, 50, 120, 80))]
    weights = np.full((CELLS, CELLS, 11), 0.01)
    weights[..., 0] = 1
    weights[10:24, 17:26, HAIR] = 50
    layers = []
    for level, number in ((COMPLETE, 0), (WIDE, 0), (CLOSE, 1)):
        box = (80, 40, 130, 90) if level == CLOSE else ALL
        layers.append(view(box, level, (number,), SKIN))
        if level != CLOSE:
            layers[-1].scores = log_probabilities(weights)
    label, _ = blended(layers, faces)
    # Hair from (85, 30) to (125, 95), and the close view's skin in the midst of it.
    assert (label[31:39, 86:124] == HAIR).all()
    assert (label[60:70, 100:110] == SKIN).all()
    assert not label[:, 135:].any()


def test_in_a_wide_view_features_lie_at_the_face():
    weights = np.full((CELLS, CELLS, 11), 0.01)
    weights[..., NOSE] = 2
    weights[..., HAIR] = 1
    wide = view(ALL, WIDE, (0,), 0)
    wide.scores = log_probabilities(weights)
    label, _ = blended([wide], [FACE])
    # Of a face of 40 pixels about (80, 60): noses within its side, hair within more.
    assert (label[22:96, 46:114] == NOSE).all()
    assert (label[:, 34] == HAIR).all()
    assert (label[:10, 40:120] == HAIR).all()


def test_a_part_that_goes_on_beyond_its_reach_is_not_cut():
    weights = np.full((CELLS, CELLS, 11), 0.01)
    weights[..., 0] = 1
    # Skin from (60, 20) to (100, 120): its reach ends at 100.
    weights[8:29, 12:21, SKIN] = 50
    wide = view(ALL, WIDE, (0,), 0)
    wide.scores = log_probabilities(weights)
    label, _ = blended([wide], [FACE])
    assert (label[21:118, 62:98] == SKIN).all()


def test_a_crowd_of_views_on_one_another_is_as_one():
    views = [view(BOX, CLOSE, (n,), SKIN) for n in range(40)]
    label, layers = blended(views, [FACE] * 40)
    np.testing.assert_array_equal(label == SKIN, depth(HW, BOX) > 0)
    assert composite.owner_map(layers, HW, [FACE] * 40).max() <= 40


def test_views_entirely_beside_the_photograph_are_nothing():
    views = [view((300, 300, 380, 380), CLOSE, (0,), SKIN), view(BOX, CLOSE, (1,), SKIN)]
    faces = [as_face((320, 320, 360, 360)), FACE]
    label, layers = blended(views, faces)
    np.testing.assert_array_equal(label == SKIN, depth(HW, BOX) > 0)
    owner = composite.owner_map(layers, HW, faces)
    assert set(owner[label == SKIN]) == {2}


def test_pixels_belong_to_the_nearest_face_by_its_size():
    faces = [as_face((30, 40, 50, 60)), as_face((90, 20, 150, 80))]
    around = view(ALL, COMPLETE, (0, 1), SKIN)
    owner = composite.owner_map([around], HW, faces)
    y, x = np.mgrid[: HW[0], : HW[1]] + 0.5
    distances = [np.hypot(x - 40, y - 50) / 20, np.hypot(x - 120, y - 50) / 60]
    clear = abs(distances[0] - distances[1]) > 0.25
    expected = np.where(distances[0] < distances[1], 1, 2)
    np.testing.assert_array_equal(owner[clear], expected[clear])


class TestOfAParser:
    """From a photograph to its label map by a network that labels by colour."""

    # Hair, which may lie far from a face; a cell of another class in the midst of it.
    CELLS = np.full((12, 12), HAIR)
    BOX = (80, 80, 112, 112)

    @pytest.fixture(autouse=True)
    def _network(self, monkeypatch):
        colour_network.install(monkeypatch.setattr, size=257)

    def parse(self, **options):
        found = [Face(self.BOX, 0.95)]
        parser = FaceParser("any", faces=lambda image: found, margin=0.5, **options)
        return parser(picture(self.CELLS))

    def test_parts_beyond_the_crop_are_labelled(self):
        crop, all_of_it = self.parse(wide_margin=0), self.parse(wide_margin=1.0)
        shown = np.zeros((192, 192), bool)
        shown[64:128, 64:128] = True
        np.testing.assert_array_equal(crop.label == HAIR, shown)
        assert (all_of_it.label[2:-2, 2:-2] == HAIR).all()
        np.testing.assert_array_equal(all_of_it.instances, all_of_it.label != 0)

    def test_boxes_that_are_given_are_the_crops_alone(self):
        parser = FaceParser("any", margin=0.5, wide_margin=1.5)
        shown = np.zeros((192, 192), bool)
        shown[64:128, 64:128] = True
        found = parser(picture(self.CELLS), faces=[self.BOX])
        np.testing.assert_array_equal(found.label == HAIR, shown)

    def test_probabilities_come_to_one_and_are_highest_at_the_label(self):
        result = self.parse(wide_margin=1.0)
        probabilities = np.stack([result.probabilities(name) for name in result.names])
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
        own = np.take_along_axis(probabilities, result.label[None].astype(int), 0)[0]
        np.testing.assert_allclose(own, probabilities.max(axis=0), atol=1e-6)

    def test_only_the_chosen_face_is_labelled(self):
        boxes = [Face((20, 80, 52, 112), 0.95), Face((130, 80, 180, 130), 0.95)]
        image = picture(self.CELLS)
        every = FaceParser("any", faces=lambda image: boxes, margin=0.2)(image)
        largest = FaceParser("any", faces=lambda image: boxes, margin=0.2, face="largest")(image)
        assert [face.box for face in largest.faces] == [face.box for face in every.faces]
        assert every.faces[0].box == boxes[1].box
        assert set(np.unique(largest.instances)) == {0, 1}
        assert (largest.label[90:110, 140:170] == HAIR).all()
        assert not largest.label[90:102, 25:47].any()
        none = FaceParser("any", faces=lambda image: boxes, margin=0.2, face=7)(image)
        assert len(none.faces) == 2
        assert not none.label.any()

    def test_a_face_partly_outside_is_labelled_where_the_photograph_is(self):
        for box in ((-16, 80, 16, 112), (176, 176, 208, 208), (80, -20, 112, 12)):
            found = FaceParser("any", faces=lambda image, box=box: [Face(box, 0.95)], margin=0.5)(
                picture(self.CELLS)
            )
            rows, columns = (slice(max(box[i], 0) + 2, min(box[i + 2], 192) - 2) for i in (1, 0))
            assert (found.label[rows, columns] == HAIR).all()


def test_clear_cells_are_labelled_alike_by_every_level(monkeypatch):
    colour_network.install(monkeypatch.setattr, size=257)
    cells = np.random.default_rng(0).integers(0, 2, (8, 8)) * HAIR
    cells[3:5, 3:5] = SKIN
    found = [Face((48, 48, 80, 80), 0.95)]
    parser = FaceParser("any", faces=lambda image: found, margin=0.5, wide_margin=1.0)
    label = parser(picture(cells)).label
    clear = interior(cells)
    near = np.zeros(clear.shape, bool)
    near[32:96, 32:96] = True
    expected = truth(cells)
    np.testing.assert_array_equal(label[clear & near], expected[clear & near])
    # Beyond the crop nothing is made up: what is labelled is hair that is there.
    beyond = clear & ~near & (label != 0)
    np.testing.assert_array_equal(label[beyond], expected[beyond])
    assert METADATA.label_set is HELEN
