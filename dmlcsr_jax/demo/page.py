"""The page: a photograph goes in, its parts come out, tinted, measured and cut out."""

import os
import pathlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import PIL.Image

from dmlcsr_jax.demo import pictures
from dmlcsr_jax.errors import UserError, one_line
from dmlcsr_jax.predict import outputs
from dmlcsr_jax.predict.result import Result

# Files of a visit are deleted this long after they were made, looked for so often.
_SECONDS_KEPT = 600
_SECONDS_BETWEEN = 60
_SECONDS_REMEMBERED = 3600
_EXAMPLE = pathlib.Path(__file__).with_name("astronaut.jpg")
_ALPHA = 0.5


def make_page(
    parse: Callable[[str], Result], parts: Sequence[str], description: str, folder: str
) -> gr.Blocks:
    """Returns the page.

    Args:
      parse: from a photograph's path to its result; a `UserError` it raises is shown.
      parts: names of the classes that can be chosen.
      description: Markdown below the title.
      folder: that Gradio serves files from; what is made for a visit lies there.
    """
    with gr.Blocks(
        title="dmlcsr_jax: face parsing",
        analytics_enabled=False,
        delete_cache=(_SECONDS_BETWEEN, _SECONDS_KEPT),
    ) as page:
        gr.Markdown(f"# Face parsing\n{description}")
        state = gr.State(time_to_live=_SECONDS_REMEMBERED)
        with gr.Row():
            with gr.Column():
                photograph = gr.Image(
                    str(_EXAMPLE),
                    label="Photograph",
                    sources=["upload", "clipboard", "webcam"],
                    buttons=[],
                    elem_id="photograph",
                )
                # The file as it was uploaded: who reads it checks it. Gradio writes a stub file
                # beside the module of a class that is derived from its own.
                photograph.preprocess = lambda payload: payload and payload.path
                _refuse_addresses(photograph)
                chosen = gr.CheckboxGroup(
                    list(parts), value=list(parts), label="Parts", show_select_all=True
                )
                alpha = gr.Slider(0, 1, _ALPHA, step=0.05, label="Opacity")
            with gr.Column():
                overlay = gr.Image(
                    label="Parsed", interactive=False, buttons=["fullscreen"], elem_id="overlay"
                )
                with gr.Row():
                    label_file = gr.DownloadButton("Label map", interactive=False)
                    cut_file = gr.DownloadButton("Cut-out of the parts", interactive=False)
                table = gr.Dataframe(
                    headers=["part", "pixels", "% of the photograph"],
                    datatype=["str", "number", "number"],
                    label="Areas",
                    interactive=False,
                    buttons=[],
                )

        def parsed(path: str | None, chosen: list[str], alpha: float):
            result = None
            if path is not None:
                try:
                    result = parse(path)
                except UserError as error:
                    message = str(error).replace(os.path.join(os.path.dirname(path), ""), "")
                    gr.Warning(one_line(message))
            if result is None:
                return None, None, _button(None), None, _button(None)
            label = outputs.label_png(result.label, result.label_set, result.name)
            label_path = _path(folder, f"{_stem(result)}_labels.png")
            label_path.write_bytes(label)
            rows = [list(row) for row in pictures.areas(result)]
            return result, *drawn(result, chosen, alpha), rows, _button(label_path)

        def drawn(result: Result | None, chosen: list[str], alpha: float):
            if result is None:
                return None, _button(None)
            tinted = _path(folder, f"{_stem(result)}_overlay.jpg")
            PIL.Image.fromarray(pictures.tinted(result, chosen, alpha)).save(tinted, quality=92)
            cut = _path(folder, f"{_stem(result)}_parts.png")
            # Speed before size: it is made anew at each choice.
            PIL.Image.fromarray(pictures.cut_out(result, chosen)).save(cut, compress_level=1)
            return str(tinted), _button(cut)

        gr.on(
            [page.load, photograph.change],
            parsed,
            [photograph, chosen, alpha],
            [state, overlay, cut_file, table, label_file],
        )
        gr.on([chosen.change, alpha.release], drawn, [state, chosen, alpha], [overlay, cut_file])
    return page


def _refuse_addresses(component: gr.Image) -> None:
    """Makes a request fail that names an address for the file, which Gradio would download."""
    move = component.async_move_resource_to_block_cache

    async def move_files(path: str | pathlib.Path | None) -> str | None:
        if path is not None and "://" in str(path):
            raise gr.Error("an address is no photograph; upload the file.", print_exception=False)
        return await move(path)

    component.async_move_resource_to_block_cache = move_files


def _button(path: pathlib.Path | None) -> Any:
    return gr.update(value=None if path is None else str(path), interactive=path is not None)


def _path(folder: str, name: str) -> pathlib.Path:
    """Returns a path that nobody guesses, in a folder of its own that is made."""
    own = pathlib.Path(folder) / uuid.uuid4().hex
    own.mkdir()
    return own / name


def _stem(result: Result) -> str:
    return pathlib.PurePath(result.name).stem or "photograph"
