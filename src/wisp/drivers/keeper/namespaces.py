"""Entering the namespaces of a cloud."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from wisp.primitives.errors import PermanentDriverError
from wisp.primitives.values import frozen

_CLONE_NEWNS = 0x0002_0000
_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWPID = 0x2000_0000
_CLONE_NEWNET = 0x4000_0000

_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)


@frozen
class Namespaces:
    """Descriptors of a cloud's namespaces, owned by whoever has this.

    Attributes:
        user: The user namespace.
        mount: The mount namespace for controllers: ``/run`` is the cloud's, ``/proc`` shows the machine.
        pid: The pid namespace.
        inner_mount: The mount namespace of the cloud's processes: ``/proc`` shows the cloud.
    """

    user: int
    mount: int
    pid: int
    inner_mount: int

    def close(self) -> None:
        """Close all of them."""
        for descriptor in (self.user, self.mount, self.pid, self.inner_mount):
            os.close(descriptor)


def join_cloud(user_fd: int, mount_fd: int) -> None:
    """Move this process into a cloud's user and mount namespace, with all capabilities there.

    The kernel allows it only while the process has one thread: call it before anything starts one. The
    working directory stays. Where the process is in that user namespace already, nothing happens.

    Raises:
        PermanentDriverError: The kernel refused.
    """
    if Path("/proc/self/ns/user").stat().st_ino == os.fstat(user_fd).st_ino:
        return
    here = Path.cwd()
    _setns(user_fd, _CLONE_NEWUSER, "user")
    _setns(mount_fd, _CLONE_NEWNS, "mount")
    with contextlib.suppress(OSError):
        os.chdir(here)


def enter_cloud(namespaces: Namespaces, network_fd: int) -> None:
    """Move this process into a cloud and one of its network namespaces.

    For commands a person runs inside: call it first, then start the command as a child, because only
    children enter the pid namespace.

    Raises:
        PermanentDriverError: The kernel refused.
    """
    join_cloud(namespaces.user, namespaces.mount)
    _setns(namespaces.inner_mount, _CLONE_NEWNS, "mount")
    _setns(network_fd, _CLONE_NEWNET, "network")
    _setns(namespaces.pid, _CLONE_NEWPID, "pid")


def in_network_namespace(network_fd: int, call: Callable[[], _T]) -> _T:
    """Give what ``call`` gives inside a network namespace, in a thread made for it.

    A socket belongs for ever to the namespace it was made in, so this is how to make one there. The process
    must have joined the cloud that the namespace belongs to.

    Raises:
        PermanentDriverError: The kernel refused to enter; else whatever ``call`` raises.
    """
    task = _Task(network_fd, call)
    thread = threading.Thread(target=task.run, name="in-namespace")
    thread.start()
    thread.join()
    if task.error is not None:
        raise task.error
    return task.results[0]


class _Task(Generic[_T]):
    def __init__(self, network_fd: int, call: Callable[[], _T]) -> None:
        self._network_fd, self._call = network_fd, call
        self.results: list[_T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            _setns(self._network_fd, _CLONE_NEWNET, "network")
            self.results.append(self._call())
        except BaseException as error:  # handed to the thread that asked
            self.error = error


def _setns(descriptor: int, kind: int, name: str) -> None:
    if _libc.setns(descriptor, kind) != 0:
        number = ctypes.get_errno()
        raise PermanentDriverError(
            f"cannot enter the {name} namespace: {os.strerror(number)}; only the cloud's own user may, "
            "and a process with several threads may not change its user namespace",
            driver="keeper",
            operation="setns",
        )
