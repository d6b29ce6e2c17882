"""Progress: everything is yielded, stdout stays clean, and noise is held back only until something goes wrong."""

import os
import subprocess
import sys
import time

import pytest

from model.io.progress import quiet_stderr, stage, track, working


@pytest.fixture
def terminal(monkeypatch):
    """Let rich believe that stderr is a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


# track


def test_every_item_is_yielded_in_order_and_nothing_is_said_to_a_file(no_terminal, capsys):
    assert list(track(range(5), "Counting")) == [0, 1, 2, 3, 4]
    assert list(track(iter("ab"), "Counting", total=7)) == ["a", "b"]
    assert list(track([], "Counting")) == []
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_a_bar_on_stderr(terminal, capsys):
    assert list(track(range(3), "Counting sheep")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == "" and "Counting sheep" in err


def test_items_are_taken_one_at_a_time(no_terminal):
    taken = []
    running = track((taken.append(number) or number for number in range(5)), "Counting")
    assert taken == []
    assert [next(running), next(running)] == [0, 1] and taken == [0, 1]


@pytest.mark.parametrize("where", ["terminal", "no_terminal"])
def test_an_error_of_the_items_comes_through(where, request):
    request.getfixturevalue(where)
    with pytest.raises(ZeroDivisionError):
        list(track((1 // number for number in (1, 0)), "Counting"))


# working


def test_a_terminal_sees_what_is_worked_on(terminal, capsys):
    with working("Writing map.tif"):
        time.sleep(0.2)
    out, err = capsys.readouterr()
    assert out == "" and "Writing map.tif" in err


def test_a_file_is_not_told_of_it(no_terminal, capsys):
    with working("Writing map.tif"):
        pass
    assert capsys.readouterr() == ("", "")


# stage


def test_a_stage_says_on_stderr_what_begins_and_what_is_done(no_terminal, capsys):
    with stage("Preparing 3 pairs"):
        assert capsys.readouterr() == ("", "Preparing 3 pairs ...\n")
    assert capsys.readouterr() == ("", "Preparing 3 pairs: done in 0 s\n")


def test_a_stage_that_fails_does_not_say_that_it_is_done(no_terminal, capsys):
    with pytest.raises(ZeroDivisionError), stage("Dividing"):
        1 // 0  # noqa: B018
    assert capsys.readouterr() == ("", "Dividing ...\n")


# quiet_stderr


def shout():
    """Write to file descriptor 2 as a C library does."""
    os.write(2, b"a note that helps nobody\n")


def test_noise_is_held_back_and_thrown_away(capfd):
    with quiet_stderr():
        shout()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_noise_is_shown_when_an_error_comes(capfd, error):
    with pytest.raises(error), quiet_stderr():
        shout()
        raise error
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "a note that helps nobody\nafter\n"


def test_much_noise_is_shown_whole(capfd):
    with pytest.raises(ValueError, match="enough"), quiet_stderr():
        for _ in range(3000):
            os.write(2, b"x" * 99 + b"\n")
        raise ValueError("enough")
    assert len(capfd.readouterr().err) == 300_000


def test_stdout_is_left_alone(capfd):
    with quiet_stderr():
        os.write(1, b"a result\n")
    assert capfd.readouterr().out == "a result\n"


def test_no_file_is_left_open(capfd):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with quiet_stderr():
            shout()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("fails", "shown"), [(False, ""), (True, "from C\nfrom Python, half a line")])
def test_pythons_own_stderr_is_held_too(fails, shown):
    """In a process of its own, where sys.stderr really is file descriptor 2."""
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
