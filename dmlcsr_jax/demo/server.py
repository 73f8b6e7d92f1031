"""Serves the page: on loopback unless told otherwise, within limits, until Ctrl-C."""

import argparse
import pathlib
import signal
import sys
import time

import gradio as gr
from etils import epath
from starlette.middleware import Middleware

from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.demo import page, uploads
from dmlcsr_jax.demo.requests import OwnFilesAlone, OwnRequestsAlone, own_names
from dmlcsr_jax.demo.results import Results
from dmlcsr_jax.errors import UserError, first_line, one_line
from dmlcsr_jax.predict.face_parser import FaceParser
from dmlcsr_jax.predict.photographs import Picture
from dmlcsr_jax.predict.reader import Reader
from dmlcsr_jax.predict.result import Result

_MEMORY_BYTES = 2**31
_REMEMBERED_BYTES = 2**28


def serve(arguments: argparse.Namespace, folder: str) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    Args:
      arguments: what `parse_arguments` returned.
      folder: for uploads and what is made of them; Gradio's own as well.

    Raises:
      UserError: where the checkpoint cannot be read or the port is taken.
    """
    with DecoderPool(arguments.limits) as pool:
        reader = Reader(pool, _MEMORY_BYTES, num_at_a_time=1)
        parser = FaceParser(arguments.checkpoint)

        def parse(path: str) -> Result:
            name = pathlib.PurePath(path).name
            image, _ = reader.photograph(Picture(0, name, source=epath.Path(path), title=name))
            result = parser(image)
            result.name = name
            return result

        results = Results(_REMEMBERED_BYTES, uploads.SECONDS_KEPT)
        blocks = page.make_page(parse, parser.label_set, _description(parser), folder, results)
        guards = [
            Middleware(
                OwnRequestsAlone,
                names=own_names(arguments.host),
                proxies=[name.lower() for name in arguments.host_name],
                most_bytes=arguments.limits.file_bytes,
            ),
            Middleware(OwnFilesAlone),
        ]
        blocks.queue(max_size=32, default_concurrency_limit=1)
        try:
            _, address, _ = blocks.launch(
                server_name=arguments.host,
                server_port=arguments.port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=arguments.limits.file_bytes,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                app_kwargs={"middleware": guards},
            )
        except OSError as error:
            raise UserError(
                f"no page at {arguments.host}, port {arguments.port or '7860 and more'}: "
                f"{first_line(error)}; choose another --host or --port."
            ) from error
        print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
        # As Ctrl-C does: what was uploaded is deleted.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            with uploads.old_files_deleted(folder, results.forget_old):
                while True:
                    time.sleep(1)
        finally:
            blocks.close(verbose=False)


def _description(parser: FaceParser) -> str:
    lines = ["Photographs stay on the machine that runs this page, and are deleted."]
    if parser.metadata.license:
        lines.append(f"Weights: {one_line(parser.metadata.license)}")
    lines.append(f"{parser.label_set.convention}.")
    if not parser.finds_faces:
        lines.append("Photographs are parsed whole: `pip install 'dmlcsr_jax[faces]'` finds faces.")
    return "  \n".join(lines)
