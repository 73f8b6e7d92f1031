"""A network as a pure function of its parameters and images, for other JAX programs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from etils import epath

from dmlcsr_jax.checkpoints import model as checkpoints
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.models.layers import resize
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.models.scores import make_predict_fn


class PureNetwork(NamedTuple):
    """A network for losses, metrics and pipelines of other JAX programs.

    Attributes:
      params: `{"params", "batch_stats"}` of float32, what `apply` takes first: running statistics
        are used as they are. Without the edge branch, where the parsing branch does not read it.
      apply: `apply(params, images)`: images floating or uint8 `[B, H, W, 3]`, RGB, 0 to 255, give
        logits float32 `[B, H, W, C]`. It is pure, compiled once a shape, differentiable in both,
        and may be part of what is jitted, vmapped and sharded.
      metadata: input size, normalisation and `label_set`, whose classes are the C channels.
    """

    params: dict[str, Any]
    apply: Callable[[dict[str, Any], jax.Array], jax.Array]
    metadata: Metadata


def load(checkpoint: epath.PathLike = "default", *, dtype: str = "float32") -> PureNetwork:
    """Loads a network as a pure function.

    It sees images as `FaceParser` sees one view: `metadata.image_size` pixels square. Others are
    resized inside, bilinearly and corners on corners, and so are the logits on the way back;
    images more than twice as large are better reduced before, where each pixel counts. Faces are
    looked for nowhere: an image is to show one, upright, with some margin.

    Args:
      checkpoint: "default", the model that comes with the package, or a checkpoint's folder, a
        run's workdir, or weights.safetensors.
      dtype: of activations, float32 or bfloat16.

    Raises:
      UserError: where the checkpoint cannot be read or the dtype is neither.
    """
    metadata, variables = checkpoints.load_model(checkpoint)
    predict = make_predict_fn(build_model(metadata, dtype), metadata)
    size = (metadata.image_size,) * 2

    @jax.jit
    def apply(params, images):
        logits = predict(params, resize(images.astype("float32"), size))
        return resize(logits, images.shape[1:3])

    return PureNetwork(checkpoints.for_inference(metadata, variables), apply, metadata)
