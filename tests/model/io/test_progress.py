"""Progress: all items are yielded, stdout stays clean, and held-back output is shown only after an error."""

import os
import re
import subprocess
import sys
import time

import pytest

from model.io.progress import quiet_stderr, stage, track, working


@pytest.fixture
def terminal(monkeypatch):
    """Make rich treat stderr as a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


# track


def test_every_item_is_yielded_in_order_and_no_bar_is_written_to_a_file(no_terminal, capsys):
    assert list(track(range(5), "Counting")) == [0, 1, 2, 3, 4]
    assert list(track(iter("ab"), "Counting", total=7)) == ["a", "b"]
    assert list(track([], "Counting")) == []
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_on_stderr(terminal, capsys):
    assert list(track(range(3), "Counting sheep")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == "" and "Counting sheep" in err


def test_items_are_requested_one_at_a_time(no_terminal):
    requested = []
    running = track((requested.append(number) or number for number in range(5)), "Counting")
    assert requested == []
    assert [next(running), next(running)] == [0, 1] and requested == [0, 1]


@pytest.mark.parametrize("stderr", ["terminal", "no_terminal"])
def test_an_error_of_the_items_is_raised(stderr, request):
    request.getfixturevalue(stderr)
    with pytest.raises(ZeroDivisionError):
        list(track((1 // number for number in (1, 0)), "Counting"))


# working


def test_a_terminal_shows_a_spinner_with_its_label(terminal, capsys):
    with working("Writing map.tif"):
        time.sleep(0.2)
    out, err = capsys.readouterr()
    assert out == "" and "Writing map.tif" in err


def test_no_spinner_is_written_to_a_file(no_terminal, capsys):
    with working("Writing map.tif"):
        pass
    assert capsys.readouterr() == ("", "")


# stage


def test_a_stage_prints_its_beginning_and_end_on_stderr(no_terminal, capsys):
    with stage("Preparing 3 pairs"):
        assert capsys.readouterr() == ("", "Preparing 3 pairs ...\n")
    assert capsys.readouterr() == ("", "Preparing 3 pairs: done in 0 s\n")


def test_a_failed_stage_is_not_printed_as_done(no_terminal, capsys):
    with pytest.raises(ZeroDivisionError), stage("Dividing"):
        1 // 0  # noqa: B018
    assert capsys.readouterr() == ("", "Dividing ...\n")


# Labels with names of files

NAMES = ["[bold] [/x].tif", "[/]", "a:heart:b.tif", "end\\", "[red]photos[/red]", "[link=x]"]


def shown(text):
    """Return what a terminal shows of a text with escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_are_shown_as_they_are(terminal, capsys, name):
    assert list(track([1], name)) == [1]
    assert name in shown(capsys.readouterr().err)
    with working(name):
        time.sleep(0.2)
    assert name in shown(capsys.readouterr().err)
    with stage(name):
        pass
    assert shown(capsys.readouterr().err) == f"{name} ...\n{name}: done in 0 s\n"


# quiet_stderr


def write_note():
    """Write to file descriptor 2, as a C library does."""
    os.write(2, b"a note that helps nobody\n")


def test_output_is_discarded_without_an_error(capfd):
    with quiet_stderr():
        write_note()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_output_is_shown_after_an_error(capfd, error):
    with pytest.raises(error), quiet_stderr():
        write_note()
        raise error
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "a note that helps nobody\nafter\n"


def test_long_output_is_shown_completely(capfd):
    with pytest.raises(ValueError, match="enough"), quiet_stderr():
        for _ in range(3000):
            os.write(2, b"x" * 99 + b"\n")
        raise ValueError("enough")
    assert len(capfd.readouterr().err) == 300_000


def test_stdout_is_not_held_back(capfd):
    with quiet_stderr():
        os.write(1, b"a result\n")
    assert capfd.readouterr().out == "a result\n"


def test_no_file_is_left_open(capfd):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with quiet_stderr():
            write_note()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("fails", "shown"), [(False, ""), (True, "from C\nfrom Python, half a line")])
def test_output_of_python_is_held_back_too(fails, shown):
    """Run in its own process, where sys.stderr really is file descriptor 2."""
    program = f"""
import os, sys
from model.io.progress import quiet_stderr
sys.stderr.write("before ")
try:
    with quiet_stderr():
        os.write(2, b"from C\\n")
        sys.stderr.write("from Python, half a line")
        if {fails}:
            raise ValueError
except ValueError:
    pass
sys.stderr.write(" after")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == f"before {shown} after"


@pytest.mark.parametrize("fails", [False, True])
def test_only_output_that_bypasses_python_is_discarded(fails):
    program = f"""
import os, sys
from model.io.progress import quiet_stderr
try:
    with quiet_stderr(show_on_error=False, keep_python=True):
        os.write(2, b"from C\\n")
        print("a warning", file=sys.stderr)
        if {fails}:
            raise ValueError
except ValueError:
    pass
os.write(2, b"after")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "a warning\nafter"


def test_output_that_the_terminal_cannot_show_is_escaped():
    program = """
import sys
from model.io.progress import quiet_stderr
with quiet_stderr(show_on_error=False, keep_python=True):
    print("caf\\xe9", file=sys.stderr)
"""
    ascii_only = {
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | ascii_only, capture_output=True, text=True, check=True)
    assert done.stderr == "caf\\xe9\n"


FULL = """
import resource, signal, sys, tempfile
from model.io.progress import quiet_stderr
tempfile.gettempdir()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # Like a full disk: no file can grow.
try:
    with quiet_stderr():
        print("held back", file=sys.stderr)
except OSError:
    print("shown", file=sys.stderr)
"""


def test_stderr_is_restored_where_the_temporary_disk_is_full():
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "shown")
