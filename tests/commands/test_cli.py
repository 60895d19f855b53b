"""The command line shared by all commands, and the command `bp-torch` itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from bp_torch import commands
from bp_torch.commands import cli
from bp_torch.training.config import TrainConfig


def python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_a_data_file_does_not_get_the_descriptor_of_a_closed_stream(tmp_path: Path) -> None:
    write = f"file = open({str(tmp_path / 'file')!r}, 'w'); file.write(str(file.fileno()))"
    code = f"from bp_torch import commands; commands._open_closed_streams(); {write}"
    code += "; print('to stdout'); import os; os.write(2, b'to stderr')"
    closed = f"exec {sys.executable} -c {code!r} <&- >&- 2>&-".replace("\\'", "'")
    assert subprocess.run(["sh", "-c", closed], check=False).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


def test_a_message_is_one_line_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(cli.UsageError, match=r"^--seed must be from 0 to 9,223,372,036,854,775,807, got -1$"):
        cli.parse(TrainConfig, ["--seed", "-1"])


def test_an_argument_that_is_not_text_is_refused() -> None:
    with pytest.raises(cli.UsageError, match="is not text in the encoding"):
        cli.parse(TrainConfig, ["--runs-dir", "r\udcff"])


def test_a_second_ctrl_c_at_the_end_prints_no_traceback() -> None:
    interrupt = "import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT)"
    interrupt += "; signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored in a background job of a shell
    done = python(
        f"{interrupt}; from bp_torch.commands import cli; cli.run(lambda: signal.raise_signal(signal.SIGINT))"
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "error: expected a command: one of train, check, explain, experiments"),
        (("--version",), 0, "bp_torch 0."),
        (("--help",), 0, "  check "),
        (("fly",), 2, "error: unknown command 'fly'; expected one of train, check, explain, experiments"),
        (("check", "nothing"), 2, "error: unknown function 'nothing'"),
    ],
)
def test_the_console_command(
    arguments: tuple[str, ...],
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bp-torch", *arguments])
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert (stopped.value.code or 0, message in "".join(capsys.readouterr())) == (status, True)


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['tyro'] = None; sys.argv[1:] = ['train']; from bp_torch.commands import main; main()"
    )
    done = python(code)
    assert (done.returncode, done.stderr) == (
        2,
        "error: this command needs tyro: install bp_torch with its extra 'train'\n",
    )


def test_the_program_in_messages_is_how_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "installed", lambda name: f"bin/{name}")
    for argv, expected in (
        (["scripts/my train.py", "--quiet"], "bin/python 'scripts/my train.py'"),
        (["bp-torch train", "--quiet"], "bin/bp-torch train"),
    ):
        monkeypatch.setattr(sys, "argv", argv)
        assert cli.program() == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert cli.program() == "bin/torchrun --nproc-per-node=3 train.py"
    monkeypatch.setattr(sys, "argv", ["bp-torch train"])
    assert cli.program() == "bin/torchrun --nproc-per-node=3 --no-python bin/bp-torch train"


def test_a_program_is_named_so_that_the_shell_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tensorboard"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", "/usr/bin")
    assert cli.installed("tensorboard") == str(program)
    monkeypatch.chdir(tmp_path)
    assert cli.installed("tensorboard") == "bin/tensorboard"
    monkeypatch.setenv("PATH", str(program.parent))
    assert cli.installed("tensorboard") == "tensorboard"
