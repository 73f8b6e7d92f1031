"""Writes a network as one file that runs without this project.

    python -m dmlcsr_jax.export --checkpoint=DIR --out=model.onnx
    python -m dmlcsr_jax.export --checkpoint=DIR --out=model.onnx --dtype=float16
    python -m dmlcsr_jax.export --checkpoint=DIR --out=model.onnx --quantize=int8 --calibrate=FOLDER
    python -m dmlcsr_jax.export --checkpoint=DIR --out=model.tflite --size=512,512
    python -m dmlcsr_jax.export --checkpoint=DIR --out=model.stablehlo
    python -m dmlcsr_jax.export --checkpoint=DIR --out=web/

The file takes photographs, uint8 RGB [B, H, W, 3] of any size, and gives label maps, uint8
[B, H, W]; normalisation and resizing are within. Class names, colours, left and right, the licence
and the checkpoint's fingerprint are in the ONNX file's metadata_props, in the LiteRT file's
metadata, and in model.stablehlo.json. ONNX needs the extra `export`, LiteRT `litert`. A LiteRT file
(.tflite) takes one photograph at a time, of one size, the network's input's if none is given; it
takes --dtype and --quantize as well.

web/ becomes a static page that parses photographs inside the browser, and that
`python -m http.server --directory=web` shows. Its model may be a .onnx file too; for that, and for
the package's own, the extra `onnx` or `openvino` is enough.
"""

import contextlib
import functools
import json
import pathlib
from collections.abc import Iterator, Sequence

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

    if arguments.is_web:
        _web(arguments)
        return
    atomic_file.require_place(arguments.out)
    if arguments.out.endswith(".onnx"):
        data, description = _onnx(arguments)
    elif arguments.out.endswith(".tflite"):
        data, description = _litert(arguments)
    else:
        data, description = _stablehlo(arguments)
        atomic_file.write_text(f"{arguments.out}.json", json.dumps(description, indent=1) + "\n")
    atomic_file.write_bytes(arguments.out, data)
    print(f"{arguments.out}: {len(data) / 1e6:.1f} MB, {description['convention']}")


def _load(arguments, *, plain: bool):
    """Returns the network as a function, the side of its input, and what is said of it."""
    import jax

    from dmlcsr_jax.checkpoints import model
    from dmlcsr_jax.checkpoints.fingerprint import fingerprint
    from dmlcsr_jax.export.program import check_size, make_core
    from dmlcsr_jax.models.dmlcsr import build_model
    from dmlcsr_jax.models.properties import describe

    metadata, variables = model.load_model(arguments.checkpoint)
    check_size(metadata)
    variables = jax.device_get(model.for_inference(metadata, variables))
    core = make_core(build_model(metadata, plain=plain), metadata, variables)
    return core, metadata.image_size, describe(metadata, fingerprint(variables))


@contextlib.contextmanager
def _needs_extra(extra: str, path: str) -> Iterator[None]:
    """Says which extra `path` needs where an import within finds a package missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{path} needs {error.name}: pip install 'dmlcsr_jax[{extra}]'.") from error


def _onnx(arguments):
    with _needs_extra("export", arguments.out):
        from dmlcsr_jax.export.onnx_graph import make_onnx
    core, size, description = _load(arguments, plain=True)
    inputs = None
    if arguments.quantize:
        from dmlcsr_jax.export.calibration import calibration_inputs

        inputs = calibration_inputs(arguments.calibrate, size)
        description |= {"quantized": arguments.quantize}
    shared = _shared(arguments) if arguments.shared else None
    data = make_onnx(
        core,
        size,
        description,
        scores=arguments.scores,
        hw=arguments.size,
        calibration=inputs,
        half_weights=arguments.dtype == "float16",
        shared=shared,
    )
    return data, description


def _litert(arguments):
    with _needs_extra("litert", arguments.out):
        from dmlcsr_jax.export import litert, litert_numbers
    from dmlcsr_jax.export.program import make_fixed_program, make_program

    core, size, description = _load(arguments, plain=True)
    hw = arguments.size or (size, size)
    change = None
    if arguments.quantize:
        from dmlcsr_jax.export.calibration import calibration_photographs

        photographs = calibration_photographs(arguments.calibrate, hw)
        change = functools.partial(
            litert_numbers.quantize, signature=litert.SIGNATURE, photographs=photographs
        )
        description |= {"quantized": arguments.quantize}
    elif arguments.dtype == "float16":
        change = litert_numbers.halve_weights
    if arguments.scores:
        output, program = "scores", make_program(core, size, scores=True)
    else:
        output, program = "labels", make_fixed_program(core, size, hw)
    data = litert.make_litert(program, hw, output, description, change=change)
    return data, description


def _shared(arguments) -> pathlib.Path:
    from dmlcsr_jax.checkpoints.model import resolve

    weights = pathlib.Path(resolve(arguments.checkpoint))
    folders = {path.resolve().parent for path in (weights, pathlib.Path(arguments.out))}
    if weights.suffix != ".safetensors" or len(folders) > 1:
        raise UserError(f"--shared exports a .safetensors file into its folder, not {weights}.")
    return weights


def _web(arguments):
    from dmlcsr_jax.export.web_folder import write_web_folder
    from dmlcsr_jax.models.metadata import Metadata
    from dmlcsr_jax.models.properties import COMPLETE
    from dmlcsr_jax.predict.networks import EXPORTED_DEFAULT
    from dmlcsr_jax.predict.onnx_network import OnnxNetwork

    path, weights = arguments.checkpoint, None
    is_default = path == "default" and not arguments.quantize
    if is_default or path.endswith(".onnx"):
        if not is_default and (arguments.quantize or arguments.dtype != "float32"):
            raise UserError(
                f"{path} stays as it is; leave --quantize and --dtype, or give its source."
            )
        path = EXPORTED_DEFAULT if is_default else pathlib.Path(path)
        metadata = OnnxNetwork(path).metadata
        data = path.read_bytes()
        beside = path.with_suffix(".safetensors")  # Where --shared left the kernels.
        weights = beside if beside.is_file() else None
    else:
        data, description = _onnx(arguments)
        metadata = Metadata.from_json(description[COMPLETE])
    write_web_folder(arguments.out, data, metadata, weights)
    print(f"{arguments.out}: python -m http.server --directory={arguments.out} shows the page")


def _stablehlo(arguments):
    from dmlcsr_jax.export.program import make_program
    from dmlcsr_jax.export.stablehlo import make_stablehlo

    core, size, description = _load(arguments, plain=False)
    program = make_program(core, size, scores=arguments.scores)
    return make_stablehlo(program, arguments.size), description


if __name__ == "__main__":
    main()
