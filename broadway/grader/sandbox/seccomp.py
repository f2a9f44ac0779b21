"""The system calls that a container may make, as a compiled kernel filter for crun and as JSON for a Docker Engine.

The filter refuses the calls that a Docker Engine refuses to a container without added capabilities, and those that
engines after 20.10 refuse in addition: io_uring, and sockets to the hypervisor. The strict filter, for students'
programs, also refuses asynchronous I/O, whose contexts all users of a host share, and all calls of another architecture
than the machine's own: a filter cannot see the arguments of 32-bit ``socketcall``, for one.
"""

import base64
import ctypes
import ctypes.util
import errno
import json
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class SeccompError(Exception):
    """The filter cannot be made on this host."""


class Compare(IntEnum):
    """The members of libseccomp's ``enum scmp_compare`` that are used here."""

    NOT_EQUAL = 1
    EQUAL = 4
    MASKED_EQUAL = 7


@dataclass(frozen=True, slots=True)
class Argument:
    """A condition on a call's argument, counted from 0; ``MASKED_EQUAL`` compares only the bits in ``mask``."""

    index: int
    compare: Compare
    value: int
    mask: int = 0

    @property
    def values(self) -> tuple[int, int]:
        """The two values in libseccomp's order, which engines share: the mask comes first."""
        return (self.mask, self.value) if self.compare is Compare.MASKED_EQUAL else (self.value, 0)


@dataclass(frozen=True, slots=True)
class Rule:
    """A call that is allowed if all conditions on its arguments hold, or that fails with ``error`` if that is set."""

    name: str
    arguments: Sequence[Argument] = ()
    error: int = 0


VSOCK = 40  # the address family of sockets between a virtual machine and its host
NAMESPACES = 0x7E020000  # the flags of clone that make namespaces
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux and uname26, with or without PER_LINUX32; then a query

_ALLOWED = """
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark
    fchdir fchmod fchmodat fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork
    fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_time64
    futex_waitv futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
    geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
    getsockopt gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
    ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt
    mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
    mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 poll ppoll ppoll_time64 prctl pread64 preadv preadv2
    prlimit64 process_mrelease pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat
    renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
    seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget
    shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs
    statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname
    unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""

RULES = (
    *(Rule(name) for name in _ALLOWED.split()),
    *(Rule("personality", [Argument(0, Compare.EQUAL, value)]) for value in PERSONALITIES),
    Rule("clone", [Argument(0, Compare.MASKED_EQUAL, 0, mask=NAMESPACES)]),
    Rule("clone3", error=errno.ENOSYS),  # no filter sees its flags; programs fall back to clone
    Rule("socket", [Argument(0, Compare.NOT_EQUAL, VSOCK)]),
)
_ASYNCHRONOUS = [name for name in _ALLOWED.split() if name.startswith("io_")]
_NOT_STRICT = {*_ASYNCHRONOUS, "socketcall"}
STRICT_RULES = (
    *(rule for rule in RULES if rule.name not in _NOT_STRICT),
    *(Rule(name, error=errno.ENOSYS) for name in _ASYNCHRONOUS),  # programs fall back to other input and output
)
# By machine: the architectures of the calls that it accepts, its own first; the numbers are from linux/audit.h.
_X86_64, _X86, _AARCH64, _ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
_ARCHITECTURES = {"x86_64": (_X86_64, _X86), "aarch64": (_AARCH64, _ARM)}
ENGINE_ARCHITECTURES = {"x86_64": ("X86_64", "X86"), "aarch64": ("AARCH64", "ARM")}  # the same, as engines name them

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_FOREIGN, _OPTIMIZE = 2, 8  # libseccomp's SCMP_FLTATR_ACT_BADARCH and _CTL_OPTIMIZE
_BINARY_TREE = 2
_UNKNOWN = -1  # libseccomp's __NR_SCMP_ERROR


class _Comparison(ctypes.Structure):
    """libseccomp's ``struct scmp_arg_cmp``."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def compile_filter(rules: Sequence[Rule] = RULES, *, allow_32_bit: bool = True) -> str:
    """Return a filter that refuses all other calls with EPERM: a kernel program in base64, in crun's form.

    Calls of an architecture that is not allowed fail with ENOSYS.

    Raises:
        SeccompError: There is no libseccomp, or no filter for this machine.
    """
    library = _library()
    with _context(library, allow_32_bit=allow_32_bit) as context, tempfile.TemporaryFile() as file:
        for rule in rules:
            _add(library, context, rule)
        _check(library.seccomp_export_bpf(context, file.fileno()), "seccomp_export_bpf")
        file.seek(0)
        return base64.b64encode(file.read()).decode()


def engine_profile(rules: Sequence[Rule] = STRICT_RULES, *, allow_32_bit: bool = False) -> str:
    """Return such a filter for a Docker Engine, as the JSON of its security option ``seccomp=``.

    A call of an architecture that is not allowed ends the program with SIGSYS: engines offer no choice. Calls with the
    same action for all arguments share one entry, since each entry costs the runtime some time.
    """
    groups: dict[int, list[str]] = {}
    for rule in rules:
        if not rule.arguments:
            groups.setdefault(rule.error, []).append(rule.name)
    conditional = [rule for rule in rules if rule.arguments]
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": f"SCMP_ARCH_{own}", "subArchitectures": [f"SCMP_ARCH_{other}"] if allow_32_bit else []}
            for own, other in ENGINE_ARCHITECTURES.values()
        ],
        "syscalls": [
            *({"names": names, **_engine_action(error)} for error, names in groups.items()),
            *(
                {"names": [rule.name], **_engine_action(rule.error), "args": [*map(_engine_argument, rule.arguments)]}
                for rule in conditional
            ),
        ],
    }
    return json.dumps(profile, separators=(",", ":"))


def _engine_action(error: int) -> dict[str, Any]:
    return {"action": "SCMP_ACT_ERRNO", "errnoRet": error} if error else {"action": "SCMP_ACT_ALLOW"}


def _engine_argument(argument: Argument) -> dict[str, Any]:
    operators = {Compare.NOT_EQUAL: "NE", Compare.EQUAL: "EQ", Compare.MASKED_EQUAL: "MASKED_EQ"}
    first, second = argument.values
    operator = f"SCMP_CMP_{operators[argument.compare]}"
    return {"index": argument.index, "value": first, "valueTwo": second, "op": operator}


def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("seccomp") or "libseccomp.so.2"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise SeccompError(f"{name} cannot be loaded: {error}") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison))
    ]
    return library


@contextmanager
def _context(library: ctypes.CDLL, *, allow_32_bit: bool) -> Iterator[int]:
    architectures = _ARCHITECTURES.get(platform.machine())
    if architectures is None:
        raise SeccompError(f"there is no filter for {platform.machine()}, only for {', '.join(_ARCHITECTURES)}")
    context = library.seccomp_init(_ERRNO | errno.EPERM)
    if not context:
        raise SeccompError("libseccomp cannot make a filter")
    try:
        _check(library.seccomp_attr_set(context, _FOREIGN, _ERRNO | errno.ENOSYS), "seccomp_attr_set")  # such as x32's
        library.seccomp_attr_set(context, _OPTIMIZE, _BINARY_TREE)  # if supported; loads in half the time
        for architecture in architectures[1:] if allow_32_bit else ():
            _check(library.seccomp_arch_add(context, architecture), "seccomp_arch_add")
        yield context
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, rule: Rule) -> None:
    number = library.seccomp_syscall_resolve_name(rule.name.encode())
    if number == _UNKNOWN:  # newer than this libseccomp, and refused
        return
    action = _ERRNO | rule.error if rule.error else _ALLOW
    comparisons = (_Comparison * len(rule.arguments))(*map(_comparison, rule.arguments))
    result = library.seccomp_rule_add_array(context, action, number, len(rule.arguments), comparisons)
    _check(result, f"seccomp_rule_add_array for {rule.name}")


def _comparison(argument: Argument) -> _Comparison:
    return _Comparison(argument.index, argument.compare, *argument.values)


def _check(result: int, call: str) -> None:
    if result < 0:
        raise SeccompError(f"libseccomp: {call}: {errno.errorcode.get(-result, result)}")
