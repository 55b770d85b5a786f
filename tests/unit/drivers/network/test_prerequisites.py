"""What a machine may lack, said with its remedy."""

import errno
import os
import socket
from pathlib import Path

import pytest

from wisp.drivers.network import place, xtables
from wisp.drivers.network.shaping import shaping
from wisp.primitives.errors import MissingPrerequisite


def test_a_machine_without_taps(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(place, "_TUN", tmp_path / "tun")
    with pytest.raises(MissingPrerequisite, match=r"taps cannot be made: .*tun: No such file") as caught:
        place._make_tap(place.TapOrder("t-web", 5))
    assert caught.value.remedy == "sudo modprobe tun && sudo chmod 0666 /dev/net/tun"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_machine_that_forbids_taps(monkeypatch, tmp_path: Path):
    (tmp_path / "tun").touch(mode=0)
    monkeypatch.setattr(place, "_TUN", tmp_path / "tun")
    with pytest.raises(MissingPrerequisite, match="Permission denied"):
        place._make_tap(place.TapOrder("t-web", 5))


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.ENOENT])
def test_a_kernel_without_the_table(monkeypatch, number):
    def refuse(*_: object) -> int:
        xtables.ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(xtables._libc, "getsockopt", refuse)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket,
        pytest.raises(MissingPrerequisite, match="NFQUEUE") as caught,
    ):
        xtables.IPV4_TABLE.read(any_socket)
    assert "modprobe" in caught.value.remedy


def test_shaping_is_a_sentence():
    assert "delay line" in shaping()
