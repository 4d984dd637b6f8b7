//! How much memory the kernel gives to the container that weir runs in.

use std::fs;
use std::path::{Component, Path};

/// Bytes that this process may use with all others of its control group, where that is less than the machine has.
pub fn memory() -> Option<u64> {
    let system = rustix::system::sysinfo();
    let machine = system.totalram * u64::from(system.mem_unit);
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit(&groups, Path::new("/sys/fs/cgroup")).filter(|limit| *limit < machine)
}

/// The least that a group has, or one around it: `groups` are those of a process by `/proc/PID/cgroup`, `root` is where
/// groups are mounted.
fn limit(groups: &str, root: &Path) -> Option<u64> {
    let of_group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        // Of a container with a namespace of its own, or with none but its own mounted, not all names can be found.
        let names = Path::new(path).components().filter(|name| matches!(name, Component::Normal(_)));
        let dir = names.fold(root.clone(), |dir, name| dir.join(name));
        let around = dir.ancestors().take_while(|dir| dir.starts_with(&root));
        around.filter_map(|dir| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok()).min()
    };
    groups.lines().filter_map(of_group).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        limit(groups, root.path())
    }

    #[test]
    fn the_least_of_a_group_and_those_around_it() {
        let second = "0::/pods/weir\n";
        assert_eq!(
            limit_of(second, &[("pods/memory.max", "max\n"), ("pods/weir/memory.max", "268435456\n")]),
            Some(1 << 28)
        );
        assert_eq!(limit_of(second, &[("pods/memory.max", "4096\n"), ("pods/weir/memory.max", "8192\n")]), Some(4096));
        assert_eq!(limit_of(second, &[("pods/memory.max", "max\n"), ("pods/weir/memory.max", "max\n")]), None);
        // A container sees its own group as the root.
        assert_eq!(limit_of("0::/\n", &[("memory.max", "4096\n")]), Some(4096));
        assert_eq!(limit_of("0::/../other\n", &[("memory.max", "4096\n")]), Some(4096));

        let first = "9:name=systemd:/\n4:cpu,memory:/docker/1\n3:cpuset:/x\n";
        let unlimited = ("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_of(first, &[unlimited, ("memory/docker/1/memory.limit_in_bytes", "8192\n")]), Some(8192));
        assert_eq!(limit_of(first, &[("memory/memory.limit_in_bytes", "8192\n")]), Some(8192));
        assert_eq!(limit_of("", &[]), None);
        assert_eq!(limit_of("nonsense\n0:\n:::\n", &[]), None);
    }
}
