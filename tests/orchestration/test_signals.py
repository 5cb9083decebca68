from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from orchestration import signals
from orchestration.signals import insisting, terminated_like_interrupted
from tests.waiting import until


def test_sigterm_is_a_keyboard_interrupt_and_then_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        terminate()
    assert signal.getsignal(signal.SIGTERM) == before


def terminate() -> None:
    with terminated_like_interrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def test_a_signal_that_is_lost_is_sent_again_until_the_block_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signals, "AGAIN", 0.1)
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with insisting():
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: len(heard) >= 3)
        count = len(heard)
        time.sleep(0.4)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert 3 <= count == len(heard)
    assert set(heard) == {signal.SIGTERM}


def test_other_threads_leave_signals_alone():
    done: list[bool] = []

    def work() -> None:
        with terminated_like_interrupted(), insisting():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
