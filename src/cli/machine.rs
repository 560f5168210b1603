//! What this machine has: the memory that the default budget is a quarter of, and the folder for data.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config;

/// Assumed where the machine doesn't tell.
const UNKNOWN_MEMORY: u64 = 4 << 30;

/// A quarter of the memory that this process may use.
pub(crate) fn quarter_of_memory() -> u64 {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let machine = total_of_meminfo(&read("/proc/meminfo"));
    // A container may have less than the machine; the file says `max` where it has not.
    let container = read("/sys/fs/cgroup/memory.max").trim().parse().ok();
    let total = [machine, container].into_iter().flatten().min().unwrap_or(UNKNOWN_MEMORY);
    (total / 4).max(config::MIN_MEMORY)
}

/// The platform's folder for data of this user, absolute; `None` where there is no home folder.
pub(crate) fn data_folder(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if cfg!(windows) {
        folder("APPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library").join("Application Support"))
    } else {
        // The XDG base directory specification; it says that relative paths are to be ignored.
        folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local").join("share")))
    }
}

fn total_of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{data_folder, total_of_meminfo};

    #[test]
    #[cfg(target_os = "linux")]
    fn the_data_folder_follows_the_base_directory_specification() {
        let of = |pairs: &'static [(&str, &str)]| {
            data_folder(&move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]).as_deref(), Some(Path::new("/x")));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_DATA_HOME", "x")]).as_deref(), Some(Path::new("/h/.local/share")));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_total_is_read_in_bytes() {
        assert_eq!(total_of_meminfo("MemTotal:       24689412 kB\nMemFree: 1 kB\n"), Some(24_689_412 * 1024));
        assert_eq!(total_of_meminfo(""), None);
        assert_eq!(total_of_meminfo("MemTotal: lots"), None);
    }
}
