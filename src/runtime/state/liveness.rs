//! Whether a process is still the one that was recorded.

/// Fields 3 (state) and 22 (start time) of `/proc/PID/stat`, proc(5).
fn read(pid: i32) -> Option<(u8, u64)> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may contain anything.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let mut fields = rest.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

/// When `pid` began, in clock ticks since boot.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    read(pid).map(|(_, start_time)| start_time)
}

/// Whether `pid` is the process that began at `start_time` and has not ended. One that has ended
/// and was not waited for yet counts as ended.
#[must_use]
pub fn is_alive(pid: i32, start_time: u64) -> bool {
    pid > 0
        && read(pid).is_some_and(|(state, began)| {
            began == start_time && !matches!(state, b'Z' | b'X' | b'x')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_only_with_its_own_start_time() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let began = start_time(pid).unwrap();
        assert!(is_alive(pid, began));
        assert!(!is_alive(pid, began + 1));
        assert!(!is_alive(0, 0));
    }

    #[test]
    fn one_that_ended_is_not_alive_even_before_it_is_waited_for() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let began = start_time(pid).unwrap();
        let exited = nix::sys::wait::waitid(
            nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid)),
            nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
        );
        exited.unwrap();
        assert!(!is_alive(pid, began));
        child.wait().unwrap();
    }
}
