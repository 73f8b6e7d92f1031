import subprocess
import sys

import pytest
from colour_network import picture
from prediction_files import save

from dmlcsr_jax import predict
from dmlcsr_jax.predict import face_parser

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--overlay_alpha=1.5"], "--overlay_alpha is 1.5"),
        (["--batch_size=0"], "batch size is 0"),
        (["--scales=0"], "scales"),
        (["--process_index=1"], "go together"),
        (["--process_index=2", "--process_count=2"], "--process_index is 2"),
        (["--records_per_shard=0"], "--records_per_shard is 0"),
        (["--boxes=nowhere.csv"], "nowhere.csv"),
        (["--split=test"], "--split is for prepared sets"),
        (["--overlay_alpha=nan"], "--overlay_alpha is nan"),
        (["--margin=-1"], "the margin is -1"),
        (["--process_index=0", "--process_count=0"], "--process_count is 0"),
        ([f"--max_file_bytes={10**23}"], f"--max_file_bytes is {10**23}"),
        ([f"--max_pixels={10**400}"], "--max_pixels is 1000"),
        (["--max_seconds=1e300"], "--max_seconds is 1e+300"),
        (["https://example.org/a.jpg"], "https://example.org/a.jpg is an address; download"),
        (["--boxes=https://example.org/a.csv"], "a.csv is an address; download"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(refused, arguments, message):
    refused(arguments, message)


def test_limits_beyond_any_machine_are_no_limits(run, tmp_path):
    save(tmp_path / "photos" / "a.png", picture(CELLS))
    most = [f"--max_{name}={2**53}" for name in ("file_bytes", "pixels", "frames", "seconds")]
    status, output, _ = run(tmp_path / "photos", *most, out=tmp_path / "out")
    assert status == 0
    assert "1 labelled" in output


def test_an_out_that_is_an_address_is_refused(run, tmp_path):
    save(tmp_path / "photos" / "a.png", picture(CELLS))
    status, _, errors = run(tmp_path / "photos", out="https://example.org/out")
    assert status == 1
    assert "https://example.org/out is an address" in errors


def test_a_wrong_argument_is_said_before_jax_is_imported(tmp_path):
    code = (
        "import sys\n"
        "from dmlcsr_jax.predict.__main__ import main\n"
        "try:\n"
        f"    main(['a.jpg', '--checkpoint=c', '--out={tmp_path}', '--overlay_alpha=2'])\n"
        "finally:\n"
        "    print('jax' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --overlay_alpha is 2.0")
    assert done.stdout == "False\n"


def test_the_package_gives_the_face_parser():
    assert predict.FaceParser is face_parser.FaceParser
    with pytest.raises(AttributeError, match="nothing"):
        _ = predict.nothing
