//! The memory that a container allows, by Linux's control groups of either version.

use std::fs;
use std::path::{Path, PathBuf};

/// What the groups that this process is in leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Bytes that may be taken.
    pub(crate) all: u64,
    /// Bytes that are not: caches of files give way.
    pub(crate) free: u64,
}

impl Allowance {
    fn both(self, other: Self) -> Self {
        Self { all: self.all.min(other.all), free: self.free.min(other.free) }
    }
}

/// Names of a version's files.
struct Names {
    limit: &'static str,
    taken: &'static str,
    /// In `memory.stat`: cached files that nobody has looked at lately.
    cached: &'static str,
}

const SECOND: Names = Names { limit: "memory.max", taken: "memory.current", cached: "inactive_file " };
const FIRST: Names = Names { limit: "memory.limit_in_bytes", taken: "memory.usage_in_bytes", cached: "total_inactive_file " };

/// What this process is allowed; `None` where nobody limits it.
pub(crate) fn allowance() -> Option<Allowance> {
    within(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The same from what `/proc/self/cgroup` says: lines of number, controllers, and path.
fn within(mount: &Path, groups: &str) -> Option<Allowance> {
    let found = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        match controllers {
            "" => tightest(mount, path, &SECOND),
            _ if controllers.split(',').any(|name| name == "memory") => tightest(&mount.join("memory"), path, &FIRST),
            _ => None,
        }
    });
    found.reduce(Allowance::both)
}

/// Of a group and all groups around it. Those that a container does not see are left out.
fn tightest(mount: &Path, path: &str, names: &Names) -> Option<Allowance> {
    let group = PathBuf::from(path.trim_start_matches('/'));
    let around = group.ancestors().map(|group| mount.join(group));
    around.filter_map(|group| of(&group, names)).reduce(Allowance::both)
}

fn of(group: &Path, names: &Names) -> Option<Allowance> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let all = number(names.limit)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(names.cached)?.trim().parse::<u64>().ok()).unwrap_or(0);
    let taken = number(names.taken).unwrap_or(0).saturating_sub(cached);
    Some(Allowance { all, free: all.saturating_sub(taken) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
    }

    #[test]
    fn cached_files_count_as_free_and_the_tightest_group_counts() {
        let mount = std::env::temp_dir().join(format!("hbat-groups-{}", std::process::id()));
        let stat = "anon 7\ninactive_file 300\nactive_file 5\ntotal_inactive_file 300\n";
        write(&mount, &[("memory.stat", "")]);
        write(&mount.join("a"), &[("memory.max", "1000\n"), ("memory.current", "900\n"), ("memory.stat", stat)]);
        write(&mount.join("a/b"), &[("memory.max", "max\n"), ("memory.current", "10\n")]);
        let limits = [("memory.limit_in_bytes", "500"), ("memory.usage_in_bytes", "450"), ("memory.stat", stat)];
        write(&mount.join("memory"), &limits);
        let found = |groups| within(&mount, groups).map(|allowance| [allowance.all, allowance.free]);
        assert_eq!(found("0::/a/b\n"), Some([1000, 400]), "of the group around it");
        assert_eq!(found("5:cpu,memory:/not/seen/here\n4:cpuset:/a\n"), Some([500, 350]), "of the first version");
        assert_eq!(found("5:memory:/x\n0::/a\n"), Some([500, 350]), "of both");
        assert_eq!(found("0::/\n4:cpuset:/a\n"), None, "nobody limits it");
        fs::remove_dir_all(mount).unwrap();
    }
}
