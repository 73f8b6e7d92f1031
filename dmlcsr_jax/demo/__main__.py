"""A page in the browser: a photograph is uploaded, pasted or taken, and its parts are shown.

    python -m dmlcsr_jax.demo

prints the page's address, on this machine alone unless --host says otherwise, and serves the model
that comes with the package, or `--checkpoint=DIR`, until Ctrl-C. Parts are switched on and off;
label map and cut-outs are downloaded. No request leaves the machine, in the browser either, and
what was uploaded is deleted ten minutes later and at the end. It needs the extra `demo`.
"""

import os
from collections.abc import Sequence

from dmlcsr_jax.demo.arguments import parse_arguments
from dmlcsr_jax.demo.uploads import uploads_folder
from dmlcsr_jax.errors import UserError, exit_on_user_error


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
      argv: the arguments; None: the process's.
    """
    arguments = parse_arguments(argv, __doc__)
    with uploads_folder() as folder:
        # Read by Gradio when it is imported.
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            from dmlcsr_jax.demo import server
        except ModuleNotFoundError as error:
            raise UserError(
                f"the page needs {error.name}: pip install 'dmlcsr_jax[demo]'."
            ) from error
        server.serve(arguments, folder)


if __name__ == "__main__":
    main()
