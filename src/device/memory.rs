//! How much memory this process may still take: what the system has, within what its container and its limits allow.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Bytes that are available to this process, reclaimable caches and free swap included; `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let system = meminfo(&read_to_string("/proc/meminfo").ok()?)?;
    let group = read_to_string("/proc/self/cgroup").ok().and_then(|text| group(&text, Path::new("/sys/fs/cgroup")));
    let space = address_space(&read_to_string("/proc/self/limits").unwrap_or_default(), &read_to_string("/proc/self/status").unwrap_or_default());
    [Some(system), group, space].into_iter().flatten().min()
}

/// The bytes of a line such as `MemAvailable:  123 kB`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn meminfo(text: &str) -> Option<u64> {
    Some(kilobytes(text, "MemAvailable")?.saturating_add(kilobytes(text, "SwapFree").unwrap_or(0)))
}

/// What the control groups (version 2) that this process is in leave: each of them may have a limit.
fn group(text: &str, root: &Path) -> Option<u64> {
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
    let mut folder: PathBuf = root.join(own);
    let mut least: Option<u64> = None;
    loop {
        let number = |name: &str| read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok(); // "max" is no number
        if let (Some(limit), Some(used)) = (number("memory.max"), number("memory.current")) {
            let stat = read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let cache = |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok()).unwrap_or(0);
            let left = limit.saturating_sub(used.saturating_sub(cache("inactive_file ") + cache("active_file ")));
            least = Some(least.map_or(left, |least| least.min(left)));
        }
        if folder == root || !folder.pop() {
            return least;
        }
    }
}

/// What `ulimit -v` leaves.
fn address_space(limits: &str, status: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit = line.split_whitespace().next()?.parse::<u64>().ok()?; // "unlimited" is no number
    Some(limit.saturating_sub(kilobytes(status, "VmSize")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_tightest_limit_counts() {
        assert_eq!(meminfo("MemTotal:  9 kB\nMemAvailable:  4 kB\nSwapFree:  1 kB\n"), Some(5 << 10));
        assert_eq!(meminfo("MemTotal:  9 kB\n"), None);
        let limits = |soft: &str| format!("Limit Soft Hard Units\nMax address space         {soft}      unlimited   bytes\n");
        assert_eq!(address_space(&limits("1000000"), "VmSize:\t 100 kB\n"), Some(1_000_000 - 102_400));
        assert_eq!(address_space(&limits("unlimited"), "VmSize:\t 100 kB\n"), None);
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("user/job");
        fs::create_dir_all(&inner).unwrap();
        for (folder, max) in [(inner.as_path(), "5000"), (&root.path().join("user"), "4000"), (root.path(), "max")] {
            fs::write(folder.join("memory.max"), max).unwrap();
            fs::write(folder.join("memory.current"), "1500\n").unwrap();
            fs::write(folder.join("memory.stat"), "anon 9\ninactive_file 300\nactive_file 200\n").unwrap();
        }
        assert_eq!(group("1:cpu:/x\n0::/user/job\n", root.path()), Some(3000));
        assert_eq!(group("0::/\n", root.path()), None);
        assert_eq!(group("1:cpu:/x\n", root.path()), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_says() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
