"""An SFTP server on this machine: one user, one folder."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
from paramiko import SFTP_OK, SFTPAttributes, SFTPHandle, SFTPServer

USER, PASSWORD = "user", "pass:wörd"


class _Gate(paramiko.ServerInterface):  # type: ignore[misc]
    def check_auth_password(self, username: str, password: str) -> int:
        known = (username, password) == (USER, PASSWORD)
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


def _told(act: Any, *args: Any) -> int:
    try:
        act(*args)
    except OSError as error:
        return int(SFTPServer.convert_errno(error.errno or 0))
    return SFTP_OK


def _folder(root: Path) -> type[paramiko.SFTPServerInterface]:
    def place(path: str) -> Path:
        return root / path.lstrip("/")

    class Folder(paramiko.SFTPServerInterface):  # type: ignore[misc]
        def list_folder(self, path: str) -> Any:
            inside = sorted(place(path).iterdir())
            return [SFTPAttributes.from_stat(one.lstat(), one.name) for one in inside]

        def stat(self, path: str) -> Any:
            try:
                return SFTPAttributes.from_stat(place(path).stat())
            except OSError as error:
                return SFTPServer.convert_errno(error.errno or 0)

        lstat = stat

        def open(self, path: str, flags: int, attr: Any) -> Any:
            try:
                file = os.fdopen(
                    os.open(place(path), flags, 0o666),
                    "r+b" if flags & os.O_RDWR else "rb" if not flags & os.O_WRONLY else "wb",
                )
            except OSError as error:
                return SFTPServer.convert_errno(error.errno or 0)
            handle = SFTPHandle(flags)
            handle.readfile = handle.writefile = file
            return handle

        def remove(self, path: str) -> int:
            return _told(place(path).unlink)

        def mkdir(self, path: str, attr: Any) -> int:
            return _told(place(path).mkdir)

        def posix_rename(self, oldpath: str, newpath: str) -> int:
            return _told(os.replace, place(oldpath), place(newpath))

    return Folder


@contextmanager
def sftp_server(root: Path) -> Iterator[int]:
    """Serve a folder, on the port that is given."""
    key, running = paramiko.ECDSAKey.generate(), []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            transport = paramiko.Transport(peer)
            transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", SFTPServer, _folder(root))
            transport.start_server(event=threading.Event(), server=_Gate())
            running.append(transport)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for transport in running:
            transport.close()
