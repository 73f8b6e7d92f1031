"""Weights that a run starts from instead of random ones."""

import logging
from typing import Any

import jax
import ml_collections
import numpy as np

from dmlcsr_jax.checkpoints import model, weights_file
from dmlcsr_jax.convert_torch import efficientnet as convert_efficientnet
from dmlcsr_jax.convert_torch.encoder import load_encoder
from dmlcsr_jax.errors import UserError, differences
from dmlcsr_jax.models import efficientnet
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.training.class_logits import counterparts, is_of_classes, take_classes

log = logging.getLogger(__name__)

_MUST_AGREE = {
    "encoder": "model",
    "stem": "model",
    "width": "model",
    "output_stride": "model",
    "dilated": "model",
    "dual_graph": "model",
    "edge_feedback": "model",
    "multi_scale_parsing": "model",
    "channel_order": "data",
    "mean": "data",
    "std": "data",
}
# The kernel that joins the features that the parsing head reads.
_FUSION = "params/parsing/fuse0/conv/kernel"


def initial_weights(
    config: ml_collections.ConfigDict, metadata: Metadata, variables: dict[str, Any]
) -> dict[str, Any]:
    """Takes in the weights of `model.init_from` (a checkpoint), then of `model.pretrained`.

    Args:
      config: its `model`.
      metadata: of the network to be trained.
      variables: its fresh `{"params", "batch_stats"}`, arrays on the host.

    Returns:
      The same trees with every tensor replaced for which there is one to load; what was loaded
      and what was left fresh is logged.

    Raises:
      UserError: where a file cannot be read or is of another architecture or pixel convention.
    """
    if config.model.init_from:
        variables = _from_checkpoint(config.model.init_from, metadata, variables)
    if config.model.pretrained and metadata.encoder in efficientnet.SCALES:
        file = convert_efficientnet.find_file(config.model.pretrained)
        params, batch_stats = convert_efficientnet.load_encoder(
            file, variables["params"], variables["batch_stats"], metadata.encoder
        )
        log.info("encoder from %s", file)
        variables = {"params": params, "batch_stats": batch_stats}
    elif config.model.pretrained:
        params, batch_stats, loaded = load_encoder(
            config.model.pretrained,
            variables["params"],
            variables["batch_stats"],
            metadata.encoder,
            metadata.stem,
        )
        log.info("%s", loaded)
        variables = {"params": params, "batch_stats": batch_stats}
    return variables


def untaught_edges(config: ml_collections.ConfigDict) -> set[str]:
    """Returns which of the edge branch's maps say nothing yet, by their names in the panels.

    No loss teaches them; or the run starts from a file of weights, which has no edge branch, and
    its steps are too few for the edges between classes.
    """
    untaught = {
        f"predicted_{name}"
        for name in ("binary_edge", "category_edge")
        if not config.loss.weights[name]
    }
    start = config.model.init_from
    if start == weights_file.DEFAULT or start.endswith(weights_file.SUFFIX):
        untaught.add("predicted_category_edge")
    return untaught


def _from_checkpoint(
    checkpoint: str, metadata: Metadata, variables: dict[str, Any]
) -> dict[str, Any]:
    """Takes every tensor that fits, and of the logits the classes that mean the same.

    What stays fresh is named.
    """
    theirs, loaded = model.load_model(checkpoint)
    there, here = (
        {f"config.{section}.{name}": getattr(which, name) for name, section in _MUST_AGREE.items()}
        for which in (theirs, metadata)
    )
    # A checkpoint without these features can start a network with them.
    is_new = metadata.multi_scale_parsing and not theirs.multi_scale_parsing
    there["config.model.multi_scale_parsing"] |= is_new
    if differing := differences(there, here):
        raise UserError(
            f"the checkpoint {checkpoint} is of another network than config.model.init_from needs: "
            f"{differing}; set these fields as they are there."
        )
    tensors, fresh = model.named_leaves(loaded), []
    same = counterparts(theirs.label_set, metadata.label_set)

    def choose(path, leaf):
        name = model.leaf_name(path)
        if name in tensors and is_of_classes(name):
            if (taken := take_classes(leaf, tensors[name], same)) is not None:
                return taken
        elif name in tensors and tensors[name].shape == leaf.shape:
            return np.asarray(tensors[name])
        elif is_new and name == _FUSION and not metadata.edge_feedback:
            # Of the new features, which are its last channels, it takes nothing yet.
            taken = np.zeros_like(leaf)
            taken[:, :, : tensors[name].shape[2]] = tensors[name]
            return taken
        fresh.append(name)
        return leaf

    chosen = jax.tree_util.tree_map_with_path(choose, variables)
    log.info("weights from %s; left fresh: %s", checkpoint, ", ".join(fresh) or "none")
    new = [name for label, name in enumerate(metadata.label_set.classes) if label not in same]
    if new:
        log.info("classes that start fresh: %s", ", ".join(new))
    if theirs.license and not metadata.license:
        log.warning("their license: %s config.model.license keeps it.", theirs.license)
    return chosen
