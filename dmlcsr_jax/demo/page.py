"""The page: a photograph goes in, its parts come out, tinted, measured and cut out."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import gradio as gr
import PIL.Image

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.demo import pictures
from dmlcsr_jax.demo.results import Results
from dmlcsr_jax.demo.uploads import is_upload, new_path
from dmlcsr_jax.errors import UserError, one_line
from dmlcsr_jax.predict import outputs
from dmlcsr_jax.predict.result import Result

_EXAMPLE = pathlib.Path(__file__).with_name("astronaut.jpg")
_ALPHA = 0.5


def make_page(
    parse: Callable[[str], Result],
    label_set: LabelSet,
    description: str,
    folder: str,
    results: Results,
) -> gr.Blocks:
    """Returns the page.

    Args:
      parse: from a photograph's path to its result; a `UserError` it raises is shown.
      label_set: gives the classes that can be chosen.
      description: Markdown below the title.
      folder: that Gradio serves files from; what is made for a visit lies there.
      results: remembers what was made between a visitor's choices.
    """
    parts = pictures.parts_of(label_set)
    with gr.Blocks(title="dmlcsr_jax: face parsing", analytics_enabled=False) as page:
        gr.Markdown(f"# Face parsing\n{description}")
        # The result's key: Gradio keeps what a visit leaves for an hour.
        state = gr.State()
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
                photograph.preprocess = lambda payload: payload and _upload(folder, payload.path)
                _refuse_all_but_uploads(photograph, folder)
                chosen = gr.CheckboxGroup(
                    parts,
                    value=[name for _, name in parts],
                    label="Parts",
                    show_select_all=True,
                )
                alpha = gr.Slider(0, 1, _ALPHA, step=0.05, label="Opacity")
            with gr.Column():
                overlay = gr.Image(
                    label="Parsed", interactive=False, buttons=["fullscreen"], elem_id="overlay"
                )
                gr.HTML(pictures.legend(label_set), elem_id="legend")
                with gr.Row():
                    label_file = gr.DownloadButton("Label map", interactive=False)
                    cut_file = gr.DownloadButton("Cut-out of the parts", interactive=False)
                told = gr.Markdown(elem_id="told")
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
                return None, None, _button(None), None, _button(None), ""
            label = outputs.label_png(result.label, result.label_set, result.name)
            label_path = new_path(folder, f"{_stem(result)}_labels.png")
            label_path.write_bytes(label)
            rows = [list(row) for row in pictures.areas(result)]
            # What it was made of is not kept.
            small = Result(
                result.image,
                result.label,
                result.instances,
                (),
                result.label_set,
                name=result.name,
            )
            key = results.add(small)
            return key, *drawn(key, chosen, alpha), rows, _button(label_path), pictures.told(result)

        def drawn(key: str | None, chosen: list[str], alpha: float):
            result = results.get(key)
            if result is None:
                if key is not None:
                    gr.Warning("The photograph has been deleted; upload it again.")
                return None, _button(None)
            tinted = new_path(folder, f"{_stem(result)}_overlay.jpg")
            PIL.Image.fromarray(pictures.tinted(result, chosen, alpha)).save(tinted, quality=92)
            cut = new_path(folder, f"{_stem(result)}_parts.png")
            # Speed before size: it is made anew at each choice.
            PIL.Image.fromarray(pictures.cut_out(result, chosen)).save(cut, compress_level=1)
            return str(tinted), _button(cut)

        gr.on(
            [page.load, photograph.change],
            parsed,
            [photograph, chosen, alpha],
            [state, overlay, cut_file, table, label_file, told],
            # Gradio would drop a photograph that comes while the one before it is taken away.
            trigger_mode="always_last",
        )
        gr.on([chosen.change, alpha.release], drawn, [state, chosen, alpha], [overlay, cut_file])
    return page


def _upload(folder: str, path: str) -> str:
    """Returns a path that a browser has named; one that is no upload ends the request.

    Whether there is such a file is not told.
    """
    if not is_upload(folder, path):
        raise gr.Error(
            "only what was uploaded to this page is opened; upload the photograph.",
            print_exception=False,
        )
    return path


def _refuse_all_but_uploads(component: gr.Image, folder: str) -> None:
    """Ends a request before Gradio downloads an address or notes a path as one to delete."""
    move = component.async_move_resource_to_block_cache

    async def move_files(path: str | pathlib.Path | None) -> str | None:
        return await move(None if path is None else _upload(folder, str(path)))

    component.async_move_resource_to_block_cache = move_files


def _button(path: pathlib.Path | None) -> Any:
    return gr.update(value=None if path is None else str(path), interactive=path is not None)


def _stem(result: Result) -> str:
    return pathlib.PurePath(result.name).stem or "photograph"
