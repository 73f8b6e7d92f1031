"""Writes a network as one file that runs without this project.

    python -m dmlcsr_jax.export --checkpoint=DIR --to=model.onnx
    python -m dmlcsr_jax.export --checkpoint=DIR --to=model.onnx --quantize=int8 --calibrate=FOLDER
    python -m dmlcsr_jax.export --checkpoint=DIR --to=model.stablehlo

The file takes photographs, uint8 RGB [B, H, W, 3] of any size, and gives label maps, uint8
[B, H, W]; normalisation and resizing are within. Class names, colours, left and right, the licence
and the checkpoint's fingerprint are in the ONNX file's metadata_props, and in
model.stablehlo.json beside the other. ONNX needs the extra `export`.
"""

import json
from collections.abc import Sequence

from dmlcsr_jax.errors import UserError, exit_on_user_error
from dmlcsr_jax.export.arguments import parse_arguments


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
      argv: the arguments; None: the process's.
    """
    arguments = parse_arguments(argv, __doc__)
    # Imported here so that a wrong argument is said at once.
    from dmlcsr_jax import atomic_file

    if arguments.to.endswith(".onnx"):
        data, description = _onnx(arguments)
    else:
        data, description = _stablehlo(arguments)
        atomic_file.write_text(f"{arguments.to}.json", json.dumps(description, indent=1) + "\n")
    atomic_file.write_bytes(arguments.to, data)
    print(f"{arguments.to}: {len(data) / 1e6:.1f} MB, {description['convention']}")


def _load(arguments, *, plain: bool):
    """Returns the network as a function, the side of its input, and what is said of it."""
    import jax

    from dmlcsr_jax.checkpoints import model
    from dmlcsr_jax.checkpoints.fingerprint import fingerprint
    from dmlcsr_jax.checkpoints.properties import describe
    from dmlcsr_jax.export.program import check_size, make_core
    from dmlcsr_jax.models.dmlcsr import build_model

    metadata, variables = model.load_model(arguments.checkpoint)
    check_size(metadata)
    variables = jax.device_get(model.for_inference(metadata, variables))
    core = make_core(build_model(metadata, plain=plain), metadata, variables)
    return core, metadata.image_size, describe(metadata, fingerprint(variables))


def _onnx(arguments):
    try:
        from dmlcsr_jax.export.onnx_graph import make_onnx
    except ModuleNotFoundError as error:
        raise UserError(
            f"{arguments.to} needs {error.name}: pip install 'dmlcsr_jax[export]'."
        ) from error
    core, size, description = _load(arguments, plain=True)
    inputs = None
    if arguments.quantize:
        from dmlcsr_jax.export.calibration import calibration_inputs

        inputs = calibration_inputs(arguments.calibrate, size)
    data = make_onnx(
        core,
        size,
        description,
        scores=arguments.scores,
        hw=arguments.size,
        calibration=inputs,
    )
    return data, description


def _stablehlo(arguments):
    from dmlcsr_jax.export.program import make_program
    from dmlcsr_jax.export.stablehlo import make_stablehlo

    core, size, description = _load(arguments, plain=False)
    program = make_program(core, size, scores=arguments.scores)
    return make_stablehlo(program, arguments.size), description


if __name__ == "__main__":
    main()
