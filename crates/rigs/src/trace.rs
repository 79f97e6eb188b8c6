//! Our own tracer: counts the system calls of a process (all its threads and children) that change a file or a name, and kills it right
//! before the one asked for.
//!
//! A seccomp filter stops the process at the calls of interest only, so that the rest runs at full speed. Invariant: a call is counted
//! before it happens, so killing at 1 to the last and after the last covers every state that the disk goes through.

use std::collections::HashSet;
use std::ffi::c_void;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use libc::{c_int, c_long, pid_t};

/// Calls that stop the process; [`changes`] then looks closer at some of them.
const CALLS: &[(c_long, &str)] = &[
    (libc::SYS_open, "open"),
    (libc::SYS_creat, "creat"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_openat2, "openat2"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_pwritev, "pwritev"),
    (libc::SYS_pwritev2, "pwritev2"),
    (libc::SYS_truncate, "truncate"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_link, "link"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_mknod, "mknod"),
    (libc::SYS_mknodat, "mknodat"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_chmod, "chmod"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchmodat, "fchmodat"),
    (FCHMODAT2, "fchmodat2"),
    (libc::SYS_chown, "chown"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_lchown, "lchown"),
    (libc::SYS_fchownat, "fchownat"),
    (libc::SYS_utimensat, "utimensat"),
    (libc::SYS_setxattr, "setxattr"),
    (libc::SYS_lsetxattr, "lsetxattr"),
    (libc::SYS_fsetxattr, "fsetxattr"),
    (libc::SYS_removexattr, "removexattr"),
    (libc::SYS_lremovexattr, "lremovexattr"),
    (libc::SYS_fremovexattr, "fremovexattr"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_sync_file_range, "sync_file_range"),
];
const FCHMODAT2: c_long = 452;

const FICLONE: u64 = 0x4004_9409;
const FICLONERANGE: u64 = 0x4020_940d;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// How a traced process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Killed right before this call.
    Killed {
        /// What it was about to do.
        call: String,
    },
    /// It ended before the call asked for came.
    Ended {
        /// Its exit code; 128 and the signal when one ended it.
        exit: i32,
        /// Changing calls that it made.
        calls: u64,
    },
}

/// Runs `command` and kills it, with all its threads, right before its changing call number `at` (from 1).
pub fn run(mut command: Command, at: Option<u64>) -> Result<Cut> {
    let filter = filter();
    // SAFETY: between fork and exec only system calls are made, on memory that was there before the fork.
    unsafe {
        command.pre_exec(move || be_traced(&filter));
    }
    let child = command.spawn().context("starting what is to be killed")?;
    let main = pid_t::try_from(child.id())?;
    // Reaped by hand: the tracer sees every thread.
    drop(child);
    let mut tracer = Tracer {
        main,
        known: HashSet::from([main]),
        calls: 0,
        at,
        killed: None,
    };
    let exit = tracer.follow()?;
    Ok(match tracer.killed {
        Some(call) => Cut::Killed { call },
        None => Cut::Ended {
            exit,
            calls: tracer.calls,
        },
    })
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// The program that stops at [`CALLS`] and lets everything else pass.
fn filter() -> Vec<libc::sock_filter> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut program = vec![
        statement(load, 4),
        jump(equal, AUDIT_ARCH_X86_64, 1, 0),
        statement(answer, libc::SECCOMP_RET_ALLOW),
        statement(load, 0),
    ];
    for (left, (number, _)) in (0..CALLS.len() as u8).rev().zip(CALLS) {
        // Over the calls that are left and the answer that lets pass.
        program.push(jump(equal, *number as u32, left + 1, 0));
    }
    program.push(statement(answer, libc::SECCOMP_RET_ALLOW));
    program.push(statement(answer, libc::SECCOMP_RET_TRACE));
    program
}

fn be_traced(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: plain system calls; the program outlives the call that copies it.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0
            || libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            ) != 0
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

struct Tracer {
    main: pid_t,
    known: HashSet<pid_t>,
    calls: u64,
    at: Option<u64>,
    killed: Option<String>,
}

impl Tracer {
    /// Follows the process to its end and returns its exit code.
    fn follow(&mut self) -> Result<i32> {
        let (first, status) = wait(self.main)?;
        if first != self.main || !libc::WIFSTOPPED(status) {
            bail!("the traced process did not stop at its start (status {status:#x})");
        }
        let options = libc::PTRACE_O_EXITKILL
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACEEXEC
            | libc::PTRACE_O_TRACESECCOMP;
        // SAFETY: a stopped tracee of this thread; no memory is passed.
        if unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, self.main, 0, options) } != 0 {
            return Err(io::Error::last_os_error()).context("ptrace options");
        }
        go_on(self.main, 0);
        loop {
            let (pid, status) = wait(-1)?;
            if libc::WIFSTOPPED(status) {
                self.stopped(pid, status);
            } else if pid == self.main {
                return Ok(if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    128 + libc::WTERMSIG(status)
                });
            }
        }
    }

    fn stopped(&mut self, pid: pid_t, status: c_int) {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if event == libc::PTRACE_EVENT_SECCOMP {
            if let Some(call) = changes(pid)
                && self.killed.is_none()
            {
                self.calls += 1;
                if self.at == Some(self.calls) {
                    self.killed = Some(call);
                    // SAFETY: the process that we started; a signal to it takes no memory.
                    unsafe { libc::kill(self.main, libc::SIGKILL) };
                    return;
                }
            }
            go_on(pid, 0);
        } else if event != 0 {
            go_on(pid, 0);
        } else {
            // A new thread begins with a stop that is not meant for it.
            let start = self.known.insert(pid) && signal == libc::SIGSTOP;
            go_on(pid, if start { 0 } else { signal });
        }
    }
}

/// The next report of a tracee of this very thread, so that several tracers live in one process.
fn wait(pid: pid_t) -> Result<(pid_t, c_int)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is ours and lives through the call.
        let found = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if found > 0 {
            return Ok((found, status));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).context("waiting for the traced process");
        }
    }
}

/// Lets a stopped tracee run; one that was killed meanwhile is no error.
fn go_on(pid: pid_t, signal: c_int) {
    // SAFETY: no memory is passed.
    unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, c_long::from(signal)) };
}

/// What the stopped thread is about to change; `None` when it changes no file and no name.
fn changes(pid: pid_t) -> Option<String> {
    // SAFETY: all zeros is a value of this plain struct, and the kernel writes at most its size.
    let info = unsafe {
        let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
        let size = size_of::<libc::ptrace_syscall_info>();
        if libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info) <= 0
            || info.op != libc::PTRACE_SYSCALL_INFO_SECCOMP
        {
            return None;
        }
        info.u.seccomp
    };
    let (number, args) = (info.nr as c_long, info.args);
    let name = CALLS
        .iter()
        .find(|(call, _)| *call == number)
        .map(|(_, name)| *name)?;
    let detail = match number {
        libc::SYS_open => created(args[1]).then(|| text(pid, args[0]))?,
        libc::SYS_openat => created(args[2]).then(|| below(pid, args[0], args[1]))?,
        libc::SYS_openat2 => created(word(pid, args[2])?).then(|| below(pid, args[0], args[1]))?,
        libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_pwrite64
        | libc::SYS_pwritev
        | libc::SYS_pwritev2
        | libc::SYS_sendfile => file(pid, args[0])?,
        libc::SYS_copy_file_range => file(pid, args[2])?,
        libc::SYS_ioctl => {
            matches!(args[1] & 0xffff_ffff, FICLONE | FICLONERANGE).then(|| file(pid, args[0]))??
        }
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
            format!(
                "{} -> {}",
                below(pid, args[0], args[1]),
                below(pid, args[2], args[3])
            )
        }
        libc::SYS_mkdirat | libc::SYS_unlinkat | libc::SYS_mknodat | libc::SYS_utimensat => {
            below(pid, args[0], args[1])
        }
        libc::SYS_fsync
        | libc::SYS_fdatasync
        | libc::SYS_syncfs
        | libc::SYS_ftruncate
        | libc::SYS_fallocate
        | libc::SYS_fchmod
        | libc::SYS_fchown
        | libc::SYS_fsetxattr => file(pid, args[0]).unwrap_or_default(),
        _ => String::new(),
    };
    Some(format!("{name}({detail})"))
}

/// True for flags of an open that makes a name or cuts a file.
fn created(flags: u64) -> bool {
    let flags = flags as c_int;
    flags & (libc::O_CREAT | libc::O_TRUNC) != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

/// The path of an open file or directory; `None` for pipes, events, terminals.
fn file(pid: pid_t, fd: u64) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/fd/{}", fd as c_int)).ok()?;
    let path = path.to_string_lossy().into_owned();
    (path.starts_with('/') && !path.starts_with("/dev/pts") && path != "/dev/null" && path != "/dev/tty")
        .then_some(path)
}

fn below(pid: pid_t, dir: u64, name: u64) -> String {
    let at = file(pid, dir).unwrap_or_default();
    format!("{at}/{}", text(pid, name))
}

fn word(pid: pid_t, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (peek(pid, at, &mut bytes) == bytes.len()).then(|| u64::from_ne_bytes(bytes))
}

fn text(pid: pid_t, at: u64) -> String {
    if at == 0 {
        return String::new();
    }
    let mut bytes = [0; 256];
    // A page may end behind the text.
    let room = (4096 - (at as usize & 4095)).min(bytes.len());
    let mut got = peek(pid, at, &mut bytes[..room]);
    if !bytes[..got].contains(&0) && got == room && room < bytes.len() {
        got += peek(pid, at + room as u64, &mut bytes[room..]);
    }
    let end = bytes[..got].iter().position(|&byte| byte == 0).unwrap_or(got);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Reads the memory of a stopped tracee; how many bytes came.
fn peek(pid: pid_t, at: u64, into: &mut [u8]) -> usize {
    let here = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let there = libc::iovec {
        iov_base: at as *mut c_void,
        iov_len: into.len(),
    };
    // SAFETY: `here` is a buffer of ours; `there` lies in the other process and is checked by the kernel.
    let got = unsafe { libc::process_vm_readv(pid, &raw const here, 1, &raw const there, 1, 0) };
    usize::try_from(got).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &std::path::Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo one > a; mv a b; (rm b; mkdir c); wait"])
            .current_dir(dir);
        command
    }

    #[test]
    fn each_change_is_counted_and_the_kill_comes_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let Cut::Ended { exit: 0, calls } = run(shell(dir.path()), None).unwrap() else {
            panic!("it did not end");
        };
        // Made, written, renamed, removed, made.
        assert_eq!(calls, 5);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let held = |at: u64| {
            let dir = tempfile::tempdir().unwrap();
            let cut = run(shell(dir.path()), Some(at)).unwrap();
            let names = std::fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> = names
                .map(|entry| {
                    let entry = entry.unwrap();
                    let size = entry.metadata().unwrap().len();
                    (entry.file_name().into_string().unwrap(), size.min(4))
                })
                .collect();
            names.sort();
            (matches!(cut, Cut::Killed { .. }), names)
        };
        assert_eq!(held(1), (true, vec![]));
        assert_eq!(held(2), (true, vec![("a".into(), 0)]));
        assert_eq!(held(3), (true, vec![("a".into(), 4)]));
        assert_eq!(held(4), (true, vec![("b".into(), 4)]));
        assert!(!held(6).0);
    }
}
