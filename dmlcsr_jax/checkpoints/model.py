"""Orbax checkpoints: of a run, to go on with it; of a model, to evaluate, ship or fine-tune it.

Every checkpoint is a folder with the items `model` (`params` and `batch_stats`), `metadata` and
`sha256` (of each tensor and of the metadata, verified when they are read); those of a run have also
`train` (optimiser, teacher, step, cycle) and `progress`, so that each of them can be evaluated as
it is. In a workdir:

    checkpoints/STEP   the run, the newest few
    best/STEP          the model with the best mean F1 so far
    teachers/CYCLE     the teacher made at the end of each cycle
"""

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from dmlcsr_jax.atomic_file import make_folder
from dmlcsr_jax.checkpoints import weights_file
from dmlcsr_jax.checkpoints.damage import damage_as_user_error, storage_failure
from dmlcsr_jax.checkpoints.digests import digests, require_same_digests, text_digest
from dmlcsr_jax.checkpoints.orbax_private import quiet_background_threads, remove_unfinished
from dmlcsr_jax.checkpoints.values import require_possible_values
from dmlcsr_jax.data.addresses import as_path
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.models.metadata import Metadata

log = logging.getLogger(__name__)

# The item of a checkpoint that holds the digests of the others.
DIGESTS = "sha256"


def abstract_variables(metadata: Metadata, dtype: str = "float32") -> dict[str, Any]:
    """Returns `{"params", "batch_stats"}` of `jax.ShapeDtypeStruct` that `metadata` implies."""
    model = build_model(metadata, dtype)
    size = metadata.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda images: model.init(jax.random.key(0), images, train=True), images
    )
    variables = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    return variables if metadata.edge_branch else _without_edge_branch(variables)


def for_inference(metadata: Metadata, variables: dict[str, Any]) -> dict[str, Any]:
    """Returns `{"params", "batch_stats"}` without the edge branch where labels do not need it."""
    return variables if metadata.edge_feedback else _without_edge_branch(variables)


def _without_edge_branch(variables) -> dict[str, Any]:
    return {
        name: {module: leaves for module, leaves in tree.items() if module != "edge"}
        for name, tree in variables.items()
    }


def leaf_name(path) -> str:
    """Returns the name of a tensor, as `params/encoder/...`, from its path in the tree."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree) -> dict[str, Any]:
    """Returns the tensors of a tree by name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {leaf_name(path): leaf for path, leaf in leaves}


def require_same_shapes(found, expected, name) -> None:
    """Refuses a tree whose tensors are not those expected.

    Args:
      found: tree of things with a `shape`.
      expected: the same.
      name: file or folder that `found` is from, for the message.

    Raises:
      UserError: names the first tensor that is missing, extra or of another shape.
    """
    found, expected = named_leaves(found), named_leaves(expected)
    for key in expected:
        if key not in found:
            raise UserError(
                f"{name} lacks the tensor {key} of shape {tuple(expected[key].shape)}: "
                "it is of another architecture."
            )
        if tuple(found[key].shape) != tuple(expected[key].shape):
            raise UserError(
                f"{name}: the tensor {key} has shape {tuple(found[key].shape)} where "
                f"{tuple(expected[key].shape)} is needed: it is of another architecture or class "
                "count."
            )
    if extra := sorted(set(found) - set(expected)):
        raise UserError(
            f"{name} has the tensor {extra[0]} of shape {tuple(found[extra[0]].shape)}, "
            "which the network does not: it is of another architecture."
        )


def checkpoint_items(
    metadata: Metadata,
    variables,
    train_items: Mapping[str, Any] | None = None,
    progress: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the items of a checkpoint for Orbax to save, their digests among them.

    Args:
      metadata: describes the network.
      variables: `{"params", "batch_stats"}`; of arrays that are split over processes, all of them
        must call this.
      train_items: tree of arrays by name that training needs besides; None for a model alone.
      progress: JSON-serialisable, of a run; None for a model alone.
    """
    trees = {"model": {"params": variables["params"], "batch_stats": variables["batch_stats"]}}
    if train_items is not None:
        trees["train"] = dict(train_items)
    described = {"metadata": metadata.to_json()}
    if progress is not None:
        described["progress"] = dict(progress)
    sums = {name: digests(named_leaves(tree)) for name, tree in trees.items()}
    described[DIGESTS] = sums | {name: text_digest(data) for name, data in described.items()}
    return {name: ocp.args.StandardSave(tree) for name, tree in trees.items()} | {
        name: ocp.args.JsonSave(data) for name, data in described.items()
    }


def save_model(path: epath.PathLike, metadata: Metadata, params, batch_stats) -> None:
    """Writes a model's checkpoint, complete or not at all.

    Args:
      path: the folder to make; it must not exist.
      metadata: stored beside the parameters.
      params: tree of arrays.
      batch_stats: tree of arrays.

    Raises:
      UserError: where `path` exists or cannot be written, the trees do not fit `metadata`, or a
        value is none of a network that works.
    """
    path = epath.Path(path)
    variables = {"params": params, "batch_stats": batch_stats}
    require_same_shapes(variables, abstract_variables(metadata), path)
    if path.exists():
        raise UserError(f"{path} exists already; name a new folder or remove it.")
    require_possible_values(named_leaves(variables), os.fspath(path))
    make_folder(path.parent)
    items = ocp.args.Composite(**checkpoint_items(metadata, variables))
    quiet_background_threads()
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(absolute(path), args=items)
    except BaseException as error:
        remove_unfinished(absolute(path))
        if (failure := storage_failure(error)) is None:
            raise
        raise UserError(f"cannot write {path}: {failure[0]}; {failure[1]}.") from error


def absolute(path: epath.PathLike) -> epath.Path:
    """Returns `path` as an absolute one, as Orbax needs it (remote: `as_path`)."""
    path = as_path(path)
    return path if "://" in os.fspath(path) else path.absolute()


def newest_in(folder: epath.Path) -> epath.Path | None:
    """Returns the newest complete checkpoint `folder/N`, or None."""
    if not folder.is_dir():
        return None
    steps = ocp.utils.checkpoint_steps(folder)
    return folder / str(max(steps)) if steps else None


def resolve(checkpoint: str, workdir: epath.PathLike | None = None) -> epath.Path:
    """Returns the folder of a model's checkpoint, or the file of its weights.

    Args:
      checkpoint: "default" (the package's model), "latest", "best", "teacher" (the last),
        "teacher:K" (of cycle K, from 1), or the path of a checkpoint, of a `.safetensors` file of
        `checkpoints.weights_file`, of a folder of numbered checkpoints, or of a workdir (its last
        teacher, else its best, else its latest).
      workdir: where the names are looked up; a path needs none.

    Raises:
      UserError: where there is no such checkpoint.
    """
    if checkpoint == weights_file.DEFAULT:
        return epath.Path(weights_file.DEFAULT_FILE)
    if teacher := re.fullmatch(r"teacher(?::(\d+))?", checkpoint):
        folder = "teachers"
    else:
        folder = {"latest": "checkpoints", "best": "best"}.get(checkpoint)
    if folder:
        if workdir is None:
            raise UserError(f"checkpoint {checkpoint!r} needs a workdir to look it up in.")
        folder = absolute(workdir) / folder
        path = newest_in(folder)
        if path and teacher and teacher[1]:
            path = folder / str(int(teacher[1]))
        if path is None or not (path / "metadata").exists():
            raise UserError(f"there is no checkpoint {checkpoint!r} in {workdir}; train it first.")
        return path
    path = absolute(checkpoint)
    if path.suffix == weights_file.SUFFIX:
        return path
    if not path.is_dir():
        raise UserError(f"{checkpoint} is not a folder; name a checkpoint or a workdir.")
    candidates = [path, *(newest_in(path / name) for name in ("teachers", "best", "checkpoints"))]
    for candidate in [*candidates, newest_in(path)]:
        if candidate and (candidate / "metadata").exists():
            return candidate
    raise UserError(f"{checkpoint} holds no complete checkpoint.")


def load_model(
    checkpoint: epath.PathLike, workdir: epath.PathLike | None = None
) -> tuple[Metadata, dict[str, Any]]:
    """Restores a model, replicated over all devices.

    Args:
      checkpoint: as `resolve` takes it.
      workdir: as `resolve` takes it.

    Returns:
      The metadata, and `{"params", "batch_stats"}` of float arrays.

    Raises:
      UserError: where there is no such checkpoint, or it is damaged or of another architecture.
    """
    path = resolve(os.fspath(checkpoint), workdir)
    replicated = sharding.replicated(sharding.make_mesh())
    if path.suffix == weights_file.SUFFIX:
        metadata, tensors = weights_file.read(path)
        abstract = abstract_variables(metadata)
        require_same_shapes(tensors, abstract, path)
        require_possible_values(tensors, os.fspath(path))
        variables = jax.tree_util.tree_map_with_path(
            lambda name, _: tensors[leaf_name(name)], abstract
        )
        return metadata, jax.device_put(variables, replicated)
    quiet_background_threads()
    handler = ocp.CompositeCheckpointHandler(
        model=ocp.StandardCheckpointHandler(),
        metadata=ocp.JsonCheckpointHandler(),
        **{DIGESTS: ocp.JsonCheckpointHandler()},
    )
    with ocp.Checkpointer(handler) as checkpointer, damage_as_user_error(path, "use another"):
        sums = digest_items(path)
        items = ocp.args.Composite(metadata=ocp.args.JsonRestore(), **sums)
        described = checkpointer.restore(path, args=items)
        metadata = Metadata.from_json(described["metadata"])
        saved = checkpointer.metadata(path).item_metadata["model"]
        if saved is None:
            raise UserError(
                f"the checkpoint {path} lacks the description of its tensors; use another."
            )
        require_same_shapes(saved.tree, abstract_variables(metadata), path)
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
            saved.tree,
        )
        items = ocp.args.Composite(model=ocp.args.StandardRestore(target))
        variables = checkpointer.restore(path, args=items)["model"]
        if sums:
            require_undamaged({**described, "model": variables})
        require_possible_values(named_leaves(variables), f"the checkpoint {path}")
        return metadata, variables


def digest_items(path: epath.Path) -> dict[str, Any]:
    """Returns the item of the checkpoint's check sums to restore; says so where it has none."""
    if (path / DIGESTS).exists():
        return {DIGESTS: ocp.args.JsonRestore()}
    log.warning(
        "the checkpoint %s has no check sums of its tensors, as older versions wrote none: it is "
        "taken as it is.",
        path,
    )
    return {}


def require_undamaged(restored: Mapping[str, Any]) -> None:
    """Refuses items of a checkpoint that are not what was saved.

    Args:
      restored: items as they were read, `sha256` among them.

    Raises:
      ValueError: says what has changed.
    """
    sums = restored[DIGESTS]
    if not isinstance(sums, dict):
        raise ValueError("its check sums are damaged")
    for name in ("metadata", "progress"):
        if name in restored and sums.get(name) != text_digest(restored[name]):
            raise ValueError(f"its {name} is not what was saved")
    for name in ("model", "train"):
        if name in restored:
            require_same_digests(named_leaves(restored[name]), sums.get(name))
