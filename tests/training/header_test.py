"""What a run says of itself."""

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.training.header import mirroring


def test_it_says_what_is_mirrored_with_what_and_whose_left_it_is(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("background\nleft eye\nright eye\nEar-L\nEar-R\n")
    said = mirroring(label_sets.get(path))
    assert "left eye with right eye, Ear-L with Ear-R; " in said
    assert "the image's" in said
    path.write_text("# left_is: subject\n" + path.read_text())
    assert "the subject's" in mirroring(label_sets.get(path))
