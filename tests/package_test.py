"""The package as users get it: its names, its commands, and a wheel without a checkout."""

import json
import os
import pathlib
import subprocess
import sys
import sysconfig

import cv2
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = (
    "--config.data.synthetic.train_examples=4",
    "--config.data.synthetic.eval_examples=2",
    "--config.data.synthetic.size=64",
    "--config.data.image_size=48",
    "--config.model.width=0.25",
    "--config.train.batch_size=2",
    "--config.eval.batch_size=2",
    "--config.train.num_epochs=1",
    "--config.csr.start_epoch=1",
)


def run(*command, cwd, **environment):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | environment
    environment.pop("PYTHONPATH", None)
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_importing_the_package_starts_no_jax():
    code = (
        "import sys, dmlcsr_jax; print(dmlcsr_jax.__version__, 'jax' in sys.modules);"
        "from dmlcsr_jax import FaceParser; print(FaceParser.__module__, 'jax' in sys.modules)"
    )
    said = run(sys.executable, "-c", code, cwd=ROOT)
    assert said.splitlines() == ["0.1.0 False", "dmlcsr_jax.predict.face_parser False"]
    code = "import dmlcsr_jax; dmlcsr_jax.face_parser"
    with pytest.raises(AssertionError, match="no attribute 'face_parser'"):
        run(sys.executable, "-c", code, cwd=ROOT)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of commands of a fresh environment that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    # Built from a copy: setuptools leaves files beside what it builds.
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in ("configs", "dmlcsr_jax", "LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
        run("cp", "-a", ROOT / name, checkout, cwd=folder)
    run(sys.executable, "-c", build, folder, cwd=checkout)
    run("rm", "-r", checkout, cwd=folder)
    [wheel] = folder.glob("*.whl")
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    python = environment / "bin" / "python"
    install = ("--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel)
    run(sys.executable, "-m", "pip", *install, cwd=folder)
    # The dependencies are this environment's: only the package is new.
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = pathlib.Path(run(python, "-c", code, cwd=folder).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import dmlcsr_jax; print(dmlcsr_jax.__file__)", cwd=folder)
    assert pathlib.Path(where.strip()) == packages / "dmlcsr_jax" / "__init__.py"
    return python.parent


def test_a_wheel_trains_predicts_and_prepares(installed, tmp_path):
    config = tmp_path / "mine.py"
    config.write_text(
        "from dmlcsr_jax.configs import synthetic\n\n\n"
        "def get_config():\n"
        "    config = synthetic.get_config()\n"
        "    config.optim.warmup_epochs = 0\n"
        "    return config\n"
    )
    run(installed / "dmlcsr-train", "--config=mine.py", "--workdir=run", *SMALL, cwd=tmp_path)
    assert (tmp_path / "run" / "metrics.json").exists()
    shipped = (
        *("--config=synthetic", "--workdir=run", "--mode=eval", "--checkpoint=latest"),
        *(*SMALL, "--config.optim.warmup_epochs=0"),
    )
    run(installed / "python", "-m", "dmlcsr_jax.main", *shipped, cwd=tmp_path)

    faces = tmp_path / "faces"
    for name in ("images", "labels"):
        (faces / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        cv2.imwrite(str(faces / f"images/{split}.jpg"), rng.integers(0, 256, (60, 50, 3), np.uint8))
        cv2.imwrite(str(faces / f"labels/{split}.png"), rng.integers(0, 3, (60, 50), np.uint8))
        (faces / f"{split}_list.txt").write_text(f"images/{split}.jpg labels/{split}.png\n")
    (faces / "label_names.txt").write_text("background\nskin\nhair\n")
    prepare = ("--dataset=folder", "--root=faces", "--out=prepared", "--num_workers=1")
    run(installed / "dmlcsr-prepare", *prepare, cwd=tmp_path)
    assert list((tmp_path / "prepared").rglob("*.array_record*"))

    predict = ("faces/images", "--checkpoint=run", "--out=parsed")
    run(installed / "dmlcsr-predict", *predict, cwd=tmp_path)
    assert len(list((tmp_path / "parsed" / "labels").glob("*.png"))) == 3
    # The model in the box, by every default.
    said = run(installed / "dmlcsr-predict", "../faces/images", "--json", cwd=tmp_path / "run")
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["name"] for line in lines] == ["test.jpg", "train.jpg", "val.jpg"]
    assert "neck_l" in lines[0]["classes"]
    run(installed / "dmlcsr-convert-torch", "--help", cwd=tmp_path)
    run(installed / "dmlcsr-demo", "--help", cwd=tmp_path)
    code = "import dmlcsr_jax.demo as d, pathlib; print(*pathlib.Path(d.__path__[0]).glob('*.jpg'))"
    assert run(installed / "python", "-c", code, cwd=tmp_path).strip().endswith("astronaut.jpg")
