"""A sign of life: of what takes long alone."""

import time

from gmsrm_jax.runtime import heartbeat


def test_what_takes_long_is_said_again_after_each_doubling_and_short_things_never(
    monkeypatch, caplog
):
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(heartbeat, "_LOOK_SECONDS", 0.01)
    caplog.set_level("INFO", "gmsrm")
    with heartbeat.heartbeat() as beat:
        for step in range(40):  # longer together than a beat
            beat(f"toy: step {step}")
            time.sleep(0.01)
        assert caplog.messages == []
        beat("toy: compiling")
        time.sleep(0.9)
        beat("")
        time.sleep(0.4)
    assert caplog.messages == ["toy: compiling: for 0:00 now", "toy: compiling: for 0:01 now"]
