"""`python leash.py PARENT SIGNAL UID GID REACH -- command …`: become that command, tied to the parent's life.

On Linux the kernel sends SIGNAL when the parent is gone, even after kill -9; elsewhere the next start finds
the leftover by its pid file. UID is where to drop root's rights to (-1: stay who we are), because Postgres
refuses to run as root. With REACH the command may still pass through folders that only root may enter (a clone
under /root), and gets nothing else back. Standard library only: it runs before every part of the world.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def _prctl(*arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:5]]
    if libc.prctl(*padded) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def _drop_rights(uid: int, gid: int, *, reach: bool) -> None:
    if reach:
        # Keep capabilities over the change of user; access(2), which initdb relies on, then honours them too.
        _prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if reach:
        only = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        data = (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)
        if ctypes.CDLL(None, use_errno=True).capset(header, data) != 0:
            raise OSError(ctypes.get_errno(), "capset failed")
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def end_with_parent(signal_number: int) -> None:
    """Have the kernel send the signal when the thread that forked us is gone."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def main() -> None:
    """Tie, drop, become."""
    parent, signal_number, uid, gid, reach = (int(argument) for argument in sys.argv[1:6])
    command = sys.argv[7:]
    if uid >= 0:
        _drop_rights(uid, gid, reach=bool(reach))
    if sys.platform == "linux":
        # After the change of user, which would clear it.
        end_with_parent(signal_number)
        if os.getppid() != parent:
            sys.exit("the parent was gone before we began")
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose


if __name__ == "__main__":
    main()
