"""What the maps of the views say of the faces: whether they are any, and how far to trust them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.predict import quality
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.views import View


def true_faces(
    faces: Sequence[Face], views: Sequence[View], label_set: LabelSet
) -> tuple[list[Face], list[View]]:
    """Returns the faces whose own map shows one, and the views of them, numbered anew.

    Args:
      faces: as a detector found them.
      views: of the photograph, with their scores.
      label_set: meaning of the scores.
    """
    closest = _closest(faces, views)
    kept = [
        number
        for number, face in enumerate(faces)
        if number not in closest
        or quality.is_face(
            closest[number].scores, closest[number].grid, face.box, face.score, label_set
        )
    ]
    if len(kept) == len(faces):
        return list(faces), list(views)
    new = {old: number for number, old in enumerate(kept)}
    seen = []
    for view in views:
        members = tuple(new[old] for old in view.faces if old in new)
        if members:
            seen.append(dataclasses.replace(view, faces=members))
    return [faces[number] for number in kept], seen


def person_alone(view: View, label_set: LabelSet) -> View:
    """Returns the view of a photograph in which no face was found, with what shows a person.

    Args:
      view: of the complete photograph, with its scores.
      label_set: meaning of the scores.
    """
    if quality.shows_person(view.scores, label_set):
        return view
    scores = np.full_like(view.scores, -16)
    scores[..., 0] = 0
    return dataclasses.replace(view, scores=scores)


def judged(
    faces: Sequence[Face], views: Sequence[View], hw: tuple[int, int], label_set: LabelSet
) -> list[Face]:
    """Returns the faces with their `quality` and `doubts`.

    Args:
      faces: of the photograph.
      views: of them, with their scores as the network gave them.
      hw: the photograph's height and width.
      label_set: meaning of the scores.
    """
    closest = _closest(faces, views)
    found = []
    for number, face in enumerate(faces):
        value, doubts = None, ()
        if number in closest:
            view = closest[number]
            value, doubts = quality.quality(
                view.scores, view.grid, face.box, face.score, face.roll, hw, label_set
            )
        found.append(dataclasses.replace(face, quality=value, doubts=doubts))
    return found


def _closest(faces: Sequence[Face], views: Sequence[View]) -> dict[int, View]:
    """Returns the innermost view of each face."""
    closest: dict[int, View] = {}
    for view in sorted(views, key=lambda view: view.level):
        for number in view.faces:
            closest.setdefault(number, view)
    return closest
