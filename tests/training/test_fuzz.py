"""Files of any content: refused in one line, without much memory, or read."""

import importlib.util
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bp_torch.training.checkpoint import packed

RIGHT = {
    "checkpoint": packed(hostile.STATE),
    "pickle": hostile.pickled(),
    "config": json.dumps(hostile.CONFIGURED.as_dict()).encode(),
    "unpacked": bytes([0, 0, 8, 3, 255, 255, 255, 255]) + bytes(40),
    "packed": bytes([31, 139, 8, 0]) + bytes(40),
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
OFTEN = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def altered(draw: st.DrawFn, right: bytes) -> bytes:
    """A right file with some bytes changed, cut out or put in."""
    content = bytearray(right)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, 8)))
        content[begin:end] = draw(st.binary(max_size=8))
    return bytes(content)


@pytest.mark.parametrize("reader", hostile.READERS)
@given(data=st.data())
@OFTEN
def test_any_bytes_are_read_or_refused(tmp_path: Path, reader: str, data: st.DataObject) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hostile.read(reader, tmp_path, data.draw(st.binary(max_size=200) | altered(RIGHT[reader])))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "in KiB"


@given(key=st.sampled_from(sorted(hostile.CONFIGURED.as_dict())) | st.text(max_size=9), value=ANY_JSON)
@OFTEN
def test_a_configuration_of_any_values_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    content = json.dumps({**hostile.CONFIGURED.as_dict(), key: value}).encode()
    hostile.read("config", tmp_path, content)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_bytes_that_lead_somewhere_new_are_read_or_refused(tmp_path: Path) -> None:
    script = Path(hostile.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "3000"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 3000" in done.stderr
