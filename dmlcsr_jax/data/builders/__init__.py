"""tensorflow-datasets builders of the data sets as their authors ship them."""

from dmlcsr_jax.data.builders.base import FaceParsingBuilder
from dmlcsr_jax.data.builders.celebamask_hq import CelebamaskHq
from dmlcsr_jax.data.builders.face_synthetics import FaceSynthetics
from dmlcsr_jax.data.builders.folder import Folder
from dmlcsr_jax.data.builders.helen import Helen, HelenStar
from dmlcsr_jax.data.builders.lapa import Lapa
from dmlcsr_jax.data.builders.options import Options

BUILDERS: dict[str, type[FaceParsingBuilder]] = {
    builder.name: builder
    for builder in (CelebamaskHq, Lapa, Helen, HelenStar, FaceSynthetics, Folder)
}

__all__ = ["BUILDERS", "FaceParsingBuilder", "Options"]
