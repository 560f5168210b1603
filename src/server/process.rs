//! What the operating system tells about this process. Zeros where it doesn't.

use std::time::Duration;

/// Memory and time that the process has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes in memory now.
    pub resident_bytes: u64,
    /// The most bytes in memory since the start.
    pub peak_bytes: u64,
    /// Bytes of memory of the machine.
    pub machine_bytes: u64,
    /// Time on a processor, for the program itself.
    pub user_time: Duration,
    /// Time on a processor, within the system.
    pub system_time: Duration,
}

impl Usage {
    /// The figures of this moment.
    #[must_use]
    pub fn now() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let (user_time, system_time) = times(&read("/proc/self/stat")).unwrap_or_default();
        Self {
            resident_bytes: kibibytes(&status, "VmRSS:"),
            peak_bytes: kibibytes(&status, "VmHWM:"),
            machine_bytes: kibibytes(&read("/proc/meminfo"), "MemTotal:"),
            user_time,
            system_time,
        }
    }
}

/// The number of a line such as `VmRSS:  1234 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Fields 14 and 15, in hundredths of a second; before them stands the program's name, in which anything may be.
fn times(stat: &str) -> Option<(Duration, Duration)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut time = || Some(Duration::from_millis(fields.next()?.parse::<u64>().ok()? * 10));
    Some((time()?, time()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_the_system_tells() {
        assert_eq!(kibibytes("Name: x\nVmRSS:\t  12 kB\n", "VmRSS:"), 12 * 1024);
        assert_eq!(kibibytes("", "VmRSS:"), 0);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20";
        assert_eq!(times(stat), Some((Duration::from_millis(1_500), Duration::from_millis(250))));
    }
}
