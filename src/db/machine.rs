//! How much memory there is to hold what is read: the machine's, or less in a container.

#[cfg(target_os = "linux")]
use std::path::{Path, PathBuf};

/// Bytes of memory that this process may fill, files it maps or reads included. A guess where it
/// cannot be found out.
#[cfg(target_os = "linux")]
pub(super) fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = u64::from(info.mem_unit.max(1)).saturating_mul(info.totalram as u64);
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    limit_of_group(&read).map_or(machine, |limit| limit.min(machine))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn memory() -> u64 {
    8 << 30
}

/// The least limit of the control groups that this process is in, if there is one. They count the
/// page cache too, so what does not fit is read again and again, however large the machine.
#[cfg(target_os = "linux")]
fn limit_of_group(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    groups.lines().filter_map(|line| limit_along(line, read)).min()
}

/// The least limit on the way from a group to the root of its tree. A container may see only the
/// root's, which is then its own.
#[cfg(target_os = "linux")]
fn limit_along(line: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, group) = (fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let group = Path::new(group.trim_start_matches('/'));
    let folders = group.ancestors().map(|above| PathBuf::from(root).join(above));
    folders.filter_map(|folder| read(&folder.join(file))?.trim().parse().ok()).min()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        limit_of_group(&|path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_least_limit_above_counts() {
        let nested = [
            ("/proc/self/cgroup", "0::/service/music\n"),
            ("/sys/fs/cgroup/service/music/memory.max", "max\n"),
            ("/sys/fs/cgroup/service/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.max", "5000\n"),
        ];
        assert_eq!(limit(&nested), Some(1000));
        let in_container = [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "7\n")];
        assert_eq!(limit(&in_container), Some(7));
    }

    #[test]
    fn the_older_kind_of_groups_is_known() {
        let files = [
            ("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/ab\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "300\n"),
        ];
        assert_eq!(limit(&files), Some(300));
    }

    #[test]
    fn no_limit_is_none() {
        let unlimited = [("/proc/self/cgroup", "0::/a\n"), ("/sys/fs/cgroup/a/memory.max", "max")];
        assert_eq!(limit(&unlimited), None);
        assert_eq!(limit(&[("/proc/self/cgroup", "nonsense")]), None);
        assert_eq!(limit(&[]), None);
        assert!(memory() > 16 << 20);
    }
}
