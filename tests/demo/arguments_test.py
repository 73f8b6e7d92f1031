"""The page's command line: bad values and a missing extra are one sentence."""

import sys

import pytest

from dmlcsr_jax.demo.__main__ import main
from dmlcsr_jax.demo.arguments import parse_arguments
from dmlcsr_jax.errors import UserError


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--port=0", "--port is 0; it must be 1 to 65535."),
        ("--max_file_bytes=0", "--max_file_bytes is 0; it must be more than 0."),
        ("--max_pixels=-1", "--max_pixels is -1; it must be more than 0."),
    ],
)
def test_impossible_arguments_are_one_sentence(argument, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_arguments([argument], "")


def test_without_its_extra_the_page_names_the_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    with pytest.raises(SystemExit) as raised:
        main([])
    assert raised.value.code == 1
    assert capsys.readouterr().err == (
        "error: the page needs gradio: pip install 'dmlcsr_jax[demo]'.\n"
    )
