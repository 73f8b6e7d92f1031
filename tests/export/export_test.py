import json
import pathlib
import re

import numpy as np
import pytest
from jax import export as jax_export

from dmlcsr_jax.export import __main__ as export
from dmlcsr_jax.export import web_folder


def test_a_stablehlo_artifact_has_the_labels_for_any_size(
    tiny_checkpoint, tiny_truth, faces, tmp_path
):
    path = tmp_path / "model.stablehlo"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}"])
    program = jax_export.deserialize(bytearray(path.read_bytes()))
    assert program.platforms == ("cpu", "cuda", "rocm", "tpu")
    for face in faces[1:3]:
        batch = np.stack([face, face[::-1]])
        for image, labels in zip(batch, np.asarray(program.call(batch)), strict=True):
            tiny_truth.assert_agrees(image, labels)
    said = json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert said["classes"] == list(tiny_truth.metadata.label_set.classes)
    assert said["license"] == "for tests"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out=model.pt"], "model.pt must end in .onnx, .tflite or .stablehlo"),
        (["--out=m.stablehlo", "--size=0,9"], "'0,9' is not H,W in pixels"),
        (["--out=m.stablehlo", "--checkpoint=nowhere"], "nowhere is not a folder"),
    ],
)
def test_bad_arguments_are_said_in_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        export.main(arguments)
    assert caught.value.code != 0
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_network_of_an_unknown_encoder_is_refused(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    path = tmp_path / "copy"
    (path / "metadata").mkdir(parents=True)
    (path / "model").symlink_to(tiny_checkpoint / "model")
    for file in (tiny_checkpoint / "metadata").iterdir():
        text = file.read_text().replace('"encoder": "tiny"', '"encoder": "vgg"')
        (path / "metadata" / file.name).write_text(text)
    with pytest.raises(SystemExit):
        export.main([f"--checkpoint={path}", f"--out={tmp_path / 'm.stablehlo'}"])
    assert "encoder 'vgg' is unknown" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["copy"]


def test_a_disk_that_is_full_leaves_nothing(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        export.main([f"--checkpoint={tiny_checkpoint}", f"--out={tmp_path}/file/m.stablehlo"])
    assert "cannot make the folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m.stablehlo", "web/"])
def test_a_place_that_takes_no_file_is_said_before_the_work(name, tmp_path, monkeypatch, capsys):
    if name == "web/":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(web_folder, "_runtime", dict)
    (tmp_path / name).mkdir()
    (tmp_path / "web" / "model.onnx").mkdir(parents=True, exist_ok=True)
    places = {"a folder is there": tmp_path / name}
    if not pathlib.Path("/sys/module").stat().st_mode & 0o222:  # No one writes there.
        places["cannot (write|make the folder) /sys/module"] = f"/sys/module/{name}"
    for sentence, place in places.items():
        slash = "/" if name.endswith("/") else ""
        with pytest.raises(SystemExit) as caught:
            export.main([f"--out={place}{slash}"])
        assert caught.value.code == 1
        said = capsys.readouterr().err
        assert re.search(sentence, said)
        assert said.count("\n") == 1
