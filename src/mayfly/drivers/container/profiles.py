"""A seccomp profile for jobs of strangers: what programs need, and nothing that leads elsewhere.

The profiles that engines bring allow user namespaces, kernel keyrings, ptrace and sockets of every
family; this one does not. Names are those of syscalls(2); the form is that of Docker and Podman,
see https://docs.docker.com/engine/security/seccomp/. Without a list of architectures a program of
another than the machine's own, above all a 32-bit one, can make no call at all.
"""

import errno
import json
import socket
from collections.abc import Iterable

_FILES = """
access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr
flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents
getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown
lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod
mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr
splice stat statfs statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs tee truncate
umask unlink unlinkat utime utimensat utimes write writev
"""
_MEMORY = """
brk get_mempolicy madvise mbind membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect
mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
set_mempolicy
"""
_PROCESSES = """
arch_prctl capget capset execve execveat exit exit_group fork get_robust_list getcpu getegid geteuid
getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage
getsid gettid getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self pause pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr
sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_tid_address setfsgid
setfsuid setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid
setuid sigaltstack signalfd signalfd4 sysinfo tgkill times tkill uname vfork wait4 waitid
"""
_WAITING = """
alarm clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_pwait
epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_waitv getitimer getrandom gettimeofday
io_cancel io_destroy io_getevents io_setup io_submit nanosleep pipe pipe2 poll ppoll pselect6 select
setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
timerfd_gettime timerfd_settime
"""
_TALKING = """
accept accept4 bind connect getpeername getsockname getsockopt listen mq_getsetattr mq_notify
mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg recvmsg
semctl semget semop semtimedop sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown
socketpair
"""
_FORBIDDEN = """
acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init
fanotify_mark finit_module fsconfig fsmount fsopen fspick init_module io_uring_enter
io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie
modify_ldt mount mount_setattr move_mount move_pages migrate_pages name_to_handle_at
open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_madvise process_vm_readv
process_vm_writev ptrace quotactl quotactl_fd reboot request_key setdomainname sethostname setns
settimeofday swapoff swapon syslog umount2 unshare userfaultfd vhangup vmsplice
"""
"""Refused as one would expect; what is in no list is answered as by a kernel that lacks it."""

_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID and _NEWNET, see clone(2)."""
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux as it is, PER_LINUX32 and UNAME26, which show another name; and to ask which it is."""
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)


def profile() -> str:
    """The profile as JSON."""
    allowed = " ".join((_FILES, _MEMORY, _PROCESSES, _WAITING, _TALKING)).split()
    rules = [
        _rule(allowed, "ALLOW"),
        _rule(_FORBIDDEN.split(), "ERRNO", errno.EPERM),
        # Its flags are in memory, where no filter sees them; programs then use clone.
        _rule(["clone3"], "ERRNO", errno.ENOSYS),
        _rule(["clone"], "ALLOW", argument=(_NEW_NAMESPACES, 0, "MASKED_EQ")),
    ]
    rules += [_rule(["personality"], "ALLOW", argument=(each, 0, "EQ")) for each in _PERSONALITIES]
    rules += [_rule(["socket"], "ALLOW", argument=(int(each), 0, "EQ")) for each in _FAMILIES]
    return json.dumps(
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.ENOSYS, "syscalls": rules}
    )


def _rule(
    names: Iterable[str],
    action: str,
    answer: int | None = None,
    argument: tuple[int, int, str] | None = None,
) -> dict[str, object]:
    """One rule; `argument` is what is asked of the call's first one."""
    rule: dict[str, object] = {"names": list(names), "action": f"SCMP_ACT_{action}", "args": []}
    if answer is not None:
        rule["errnoRet"] = answer
    if argument is not None:
        value, second, comparison = argument
        rule["args"] = [
            {"index": 0, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{comparison}"}
        ]
    return rule
