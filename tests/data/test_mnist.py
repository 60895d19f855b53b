"""MNIST: reading, unpacking, downloading, and one-line errors that name the problem and the fix.

No test uses the network: downloads fail, hang, or come from a local server.
"""

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import URLError

import pytest
import torch

from bp_torch.data import DataError, Dataset, load, mnist

FILES = sorted(mnist._FILES)
IMAGES, LABELS = FILES[:2]  # the test set's: the smaller ones
DOWNLOADER = mnist._DOWNLOADER


@pytest.fixture(autouse=True)
def no_network(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make downloads fail at once, unset the source, and reuse the synthetic digits."""
    monkeypatch.setattr(mnist, "_DOWNLOADER", "raise SystemExit('first line\\nno route to host')")
    monkeypatch.delenv("BP_TORCH_MNIST_SOURCE", raising=False)
    monkeypatch.setattr(mnist, "load_digits", lambda: digits)


@pytest.fixture
def root(unpacked: Path, tmp_path: Path) -> Path:
    """A root with all of MNIST. Its files are hard links, so change them with `rewrite`."""
    raw = raw_folder(tmp_path)
    raw.mkdir(parents=True)
    for name in FILES:
        os.link(raw_folder(unpacked) / name, raw / name)
    return tmp_path


def raw_folder(root: Path) -> Path:
    """torchvision's folder for MNIST's files."""
    return root / "MNIST" / "raw"


def rewrite(file: Path, content: bytes) -> None:
    """Replace `file` by a new file with this content."""
    file.unlink()
    file.write_bytes(content)


def flip_bit(content: bytes, at: int) -> bytes:
    """Flip the lowest bit of one byte."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def files_below(root: Path) -> list[str]:
    """The names of all files below a folder."""
    return sorted(file.name for file in root.rglob("*") if file.is_file())


def load_error(root: Path, source: Path | None = None, *, name: str = "mnist") -> str:
    """The message of a failing load, which must be a single line."""
    with pytest.raises(DataError) as caught:
        load(name, root, source=source)
    message = str(caught.value)
    assert "\n" not in message
    return message


class QuietHandler(SimpleHTTPRequestHandler):
    """Serve files without logging."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class QuietServer(ThreadingHTTPServer):
    """Ignore closed connections: torchvision closes the first one early, after looking for a redirection."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore the error."""


@contextmanager
def mirror(folder: Path, monkeypatch: pytest.MonkeyPatch, *others: str) -> Iterator[None]:
    """Make torchvision download from other addresses first, then from a local server of this folder."""
    with QuietServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        mirrors = [*others, f"http://127.0.0.1:{server.server_port}/"]
        redirect = f"import os; from bp_torch.data import mnist; mnist._datasets().MNIST.mirrors = {mirrors}; "
        monkeypatch.setattr(mnist, "_DOWNLOADER", redirect + "os.write(2, b'a warning'); " + DOWNLOADER)
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        try:
            yield
        finally:
            server.shutdown()


@pytest.fixture
def unreachable() -> Iterator[str]:
    """The address of a port that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # reserved, but without a listener
        yield f"http://localhost:{unused.getsockname()[1]}/"


# Loading


def test_mnist_is_mnist(unpacked: Path) -> None:
    """The class counts, mean pixel and standard deviation are those in the literature."""
    data = load("mnist", unpacked)
    assert data.name == "mnist"
    assert str(unpacked) in data.origin
    assert data.train.images.shape == (60_000, 28, 28)
    assert data.test.images.shape == (10_000, 28, 28)
    assert (data.train.images.dtype, data.train.labels.dtype) == (torch.uint8, torch.int64)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    share = data.train.images.flatten().bincount(minlength=256).double() / data.train.images.numel()
    pixel = torch.arange(256) / 255
    mean = (share * pixel).sum()
    assert mean.item() == pytest.approx(0.1307, abs=5e-5)
    assert (share * (pixel - mean).square()).sum().sqrt().item() == pytest.approx(0.3081, abs=5e-5)


def test_unpacked_files_are_read_quickly_without_source_or_network(unpacked: Path) -> None:
    started = time.perf_counter()
    data = load("auto", unpacked, source="/no such folder")
    assert time.perf_counter() - started < 1
    assert data.name == "mnist"


def test_only_the_unpacked_files_remain_in_root(unpacked: Path) -> None:
    assert files_below(unpacked) == FILES


def test_the_source_may_come_from_the_environment_and_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_source: Path
) -> None:
    before = [(file.name, file.stat().st_mtime_ns) for file in sorted(mnist_source.iterdir())]
    monkeypatch.setenv("BP_TORCH_MNIST_SOURCE", str(mnist_source))
    assert load("auto", str(tmp_path)).name == "mnist"
    assert [(file.name, file.stat().st_mtime_ns) for file in sorted(mnist_source.iterdir())] == before


def test_gz_files_in_the_root_are_unpacked(tmp_path: Path, mnist_source: Path) -> None:
    raw_folder(tmp_path).mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(mnist_source / f"{name}.gz", raw_folder(tmp_path) / f"{name}.gz")
    assert load("mnist", tmp_path).name == "mnist"


def test_a_missing_file_is_unpacked_again_and_the_others_stay(root: Path, mnist_source: Path) -> None:
    (raw_folder(root) / LABELS).unlink()
    inode = (raw_folder(root) / IMAGES).stat().st_ino
    load("mnist", root, source=mnist_source)
    assert files_below(root) == FILES
    assert (raw_folder(root) / IMAGES).stat().st_ino == inode


def test_concurrent_loads_do_not_interfere(tmp_path: Path, mnist_source: Path) -> None:
    with ThreadPoolExecutor() as pool:
        loads = [pool.submit(load, "mnist", tmp_path, source=mnist_source) for _ in range(2)]
    assert {int(each.result().train.images.sum()) for each in loads} == {1_567_298_545}
    assert files_below(tmp_path) == FILES


# Damaged files


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(root: Path, name: str) -> None:
    file = raw_folder(root) / name
    rewrite(file, file.read_bytes()[:1000])
    message = load_error(root)
    assert message.startswith(f"{file} is damaged (1,000 bytes instead of ")
    assert message.endswith("delete it and run again: it will be downloaded again")


@pytest.mark.parametrize("at", [0, 7, 4321, -1], ids=["magic number", "count", "inside", "last"])
def test_a_single_wrong_bit_is_detected(root: Path, at: int) -> None:
    file = raw_folder(root) / IMAGES
    content = file.read_bytes()
    rewrite(file, flip_bit(content, at % len(content)))
    assert f"{file} is damaged (its SHA-256 is not MNIST's)" in load_error(root)


def test_a_damaged_file_is_replaced_once_the_user_deletes_it(root: Path, mnist_source: Path) -> None:
    file = raw_folder(root) / LABELS
    rewrite(file, b"my own")
    message = load_error(root, mnist_source, name="auto")
    assert message.endswith(f"delete it and run again: it will be unpacked again from {mnist_source}")
    assert file.read_bytes() == b"my own"
    file.unlink()
    assert load("auto", root, source=mnist_source).name == "mnist"


def test_a_damaged_file_stays_if_another_is_missing(root: Path, mnist_source: Path) -> None:
    file = raw_folder(root) / LABELS
    rewrite(file, b"my own")
    (raw_folder(root) / IMAGES).unlink()
    assert str(file) in load_error(root, mnist_source)
    assert file.read_bytes() == b"my own"


def test_damage_is_detected_before_torchvision_reads(tmp_path: Path) -> None:
    raw_folder(tmp_path).mkdir(parents=True)
    for name in FILES:
        (raw_folder(tmp_path) / name).write_bytes(b"")
    assert "is damaged (0 bytes instead of 47,040,016)" in load_error(tmp_path)


# An invalid source


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_source_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    message = load_error(tmp_path / "root", tmp_path / "typo", name=name)
    assert str(tmp_path / "typo" / "train-images-idx3-ubyte.gz") in message
    assert "No such file" in message
    assert files_below(tmp_path) == []


def test_a_source_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mnist.zip"
    file.touch()
    message = load_error(tmp_path / "root", file)
    assert str(file) in message
    assert "must be a folder" in message


def test_a_file_missing_from_the_source_is_named(tmp_path: Path, mnist_source: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in FILES[1:]:
        shutil.copyfile(mnist_source / f"{name}.gz", source / f"{name}.gz")
    assert str(source / f"{IMAGES}.gz") in load_error(tmp_path / "root", source)
    assert files_below(tmp_path / "root") == []


def test_a_wrong_gz_is_named_and_not_downloaded_instead(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in FILES:
        (source / f"{name}.gz").write_bytes(b"not MNIST")
    message = load_error(tmp_path / "root", source)
    assert message.startswith(f"{source / 'train-images-idx3-ubyte.gz'} is damaged (its MD5 is not f68b3c2d")
    assert files_below(tmp_path / "root") == []


# A root without access


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "root"
    file.touch()
    message = load_error(file)
    assert message.startswith(f"{file}: cannot unpack MNIST there (")
    assert message.endswith("choose a folder you can write")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in load_error(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_permission_is_named(root: Path) -> None:
    file = raw_folder(root) / LABELS
    rewrite(file, b"")
    file.chmod(0)
    assert f"{file} cannot be read (Permission denied)" in load_error(root)


# Downloads


def test_a_download_is_verified_unpacked_and_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mnist_source: Path
) -> None:
    with mirror(mnist_source, monkeypatch):
        assert len(load("mnist", tmp_path).train.labels) == 60_000
    assert files_below(tmp_path) == FILES
    assert capfd.readouterr() == ("", "")


def test_a_download_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server's first file is wrong; the last line of torchvision's message is the reason."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "train-images-idx3-ubyte.gz").write_bytes(b"not MNIST")
    with mirror(tmp_path / "served", monkeypatch):
        message = load_error(tmp_path / "root")
    assert message.startswith("MNIST could not be downloaded (127.0.0.1: File not found or corrupted.); ")
    assert "BP_TORCH_MNIST_SOURCE" in message
    assert list((tmp_path / "root").iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_download_that_hangs_is_stopped(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "_DOWNLOADER", "import time; time.sleep(60)")
    monkeypatch.setitem(mnist._DOWNLOAD_SECONDS, name, 0.2)
    started = time.perf_counter()
    try:
        origin = load(name, tmp_path).origin
    except DataError as error:
        origin = str(error)
    assert time.perf_counter() - started < 10
    assert "MNIST could not be downloaded within 0.2 seconds" in origin
    assert list(tmp_path.iterdir()) == []


def test_every_mirror_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unreachable: str) -> None:
    (tmp_path / "served").mkdir()
    with mirror(tmp_path / "served", monkeypatch, unreachable):
        message = load_error(tmp_path / "root")
    reasons = "localhost: Connection refused; 127.0.0.1: HTTP Error 404: File not found"
    assert message.startswith(f"MNIST could not be downloaded ({reasons}); ")


def test_the_next_mirror_is_used_if_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_source: Path, unreachable: str
) -> None:
    with mirror(mnist_source, monkeypatch, unreachable):
        assert load("mnist", tmp_path).name == "mnist"


def test_a_timeout_reports_the_mirrors_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloader = "import time; print('a.org: Not found'); print('b.org', end='', flush=True); time.sleep(60)"
    monkeypatch.setattr(mnist, "_DOWNLOADER", downloader)
    monkeypatch.setitem(mnist._DOWNLOAD_SECONDS, "mnist", 2)
    message = load_error(tmp_path)
    assert message.startswith("MNIST could not be downloaded within 2 seconds (a.org: Not found; b.org: unfinished); ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (URLError(OSError(-2, "Name or service not known")), "Name or service not known"),
        (
            URLError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired (_ssl.c:1006)"),
            "certificate verify failed: expired",
        ),
        (RuntimeError("Tried http://a.org, got:\n<urlopen error timed out>\n"), "timed out"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (TimeoutError(), "TimeoutError"),
        (RuntimeError("\x1b[31mred"), "?[31mred"),
    ],
)
def test_the_reason_is_short_and_printable(error: Exception, reason: str) -> None:
    assert mnist._reason(error) == reason


def test_the_start_of_a_download_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bp_torch.data")
    load("auto", tmp_path)
    assert caplog.messages == ["downloading MNIST, for at most 10 seconds"]


def test_without_a_download_nothing_is_logged(
    unpacked: Path, tmp_path: Path, mnist_source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bp_torch.data")
    load("mnist", unpacked)
    load("mnist", tmp_path, source=mnist_source)
    load("digits", tmp_path)
    assert caplog.messages == []


def test_a_closed_stderr_is_no_error(tmp_path: Path) -> None:
    code = f"""
import logging, sys
from bp_torch.data import load, mnist
assert sys.stderr is None
logging.basicConfig(format="%(message)s")
logging.getLogger("bp_torch.data").setLevel(logging.INFO)
mnist._DOWNLOADER = "raise SystemExit('no route to host')"
print(load("auto", {str(tmp_path)!r}).name)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert output == "digits\n"


def test_auto_waits_less_than_mnist() -> None:
    assert 0 < mnist._DOWNLOAD_SECONDS["auto"] <= 15 <= mnist._DOWNLOAD_SECONDS["mnist"] <= 60


def test_without_a_network_mnist_names_the_alternatives(tmp_path: Path) -> None:
    message = load_error(tmp_path)
    assert message.startswith("MNIST could not be downloaded (no route to host); ")
    assert message.endswith(
        "set BP_TORCH_MNIST_SOURCE or --mnist-source to a folder with its four .gz files, "
        "or use synthetic digits: --data digits"
    )


def test_without_a_network_auto_loads_digits_and_gives_the_reason(tmp_path: Path) -> None:
    data = load("auto", tmp_path)
    assert data.name == "digits"
    assert "used in its place" in data.origin
    assert "no route to host" in data.origin
    assert "in its place" not in load("digits", tmp_path).origin


# Names and imports


def test_digits_need_no_files(tmp_path: Path, digits: Dataset) -> None:
    assert load("digits", tmp_path / "root") == digits
    assert not (tmp_path / "root").exists()


def test_an_unknown_name_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name: expected 'auto', 'mnist' or 'digits', got 'fashion'"):
        load("fashion", tmp_path)


def test_other_import_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="torchvision"):
        mnist._datasets()
