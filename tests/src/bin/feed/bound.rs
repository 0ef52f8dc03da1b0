//! A bound on the memory of a program that holds for the system's copies of its files too: that of a small machine.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

/// Where Linux shows its control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// What keeps programs to the bound.
pub enum Bound {
    /// A control group, made within that of this program and removed in the end.
    Group(PathBuf),
    /// systemd makes a control group for each program, of so many bytes.
    Systemd(u64),
}

impl Bound {
    /// A bound of so many bytes.
    pub fn new(bytes: u64) -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let made = own.lines().filter_map(|it| group(it, bytes)).find_map(Result::ok);
        if let Some(group) = made {
            return Ok(Self::Group(group));
        }
        let systemd = Self::Systemd(bytes);
        let works = systemd.command(Path::new("true")).stderr(Stdio::null()).status();
        if !works.is_ok_and(|it| it.success()) {
            bail!(
                "the memory of a program cannot be bounded here: neither may control groups be made (as root), nor does systemd-run work"
            );
        }
        Ok(systemd)
    }

    /// A program that is kept to the bound.
    pub fn command(&self, program: &Path) -> Command {
        match self {
            Self::Group(group) => {
                let mut command = Command::new("sh");
                // The shell joins the group, and becomes the program.
                command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]);
                command.arg(group.join("cgroup.procs")).arg(program);
                command
            }
            Self::Systemd(bytes) => {
                let mut command = Command::new("systemd-run");
                command.args(["--user", "--scope", "--quiet", "--property=MemorySwapMax=0"]);
                command.arg(format!("--property=MemoryMax={bytes}")).arg(program);
                command
            }
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(_) => formatter.write_str("a control group"),
            Self::Systemd(_) => formatter.write_str("systemd-run"),
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Self::Group(group) = self {
            // An empty group that is left harms nobody.
            drop(fs::remove_dir(group));
        }
    }
}

/// Makes a group within that of a line of `/proc/self/cgroup`; nothing if that is not one for memory.
fn group(line: &str, bytes: u64) -> Option<io::Result<PathBuf>> {
    let (tree, limits) = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
        [_, "memory", group] => (
            format!("{GROUPS}/memory{group}"),
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
        ),
        [_, "", group] => (format!("{GROUPS}{group}"), ["memory.max", "memory.swap.max"]),
        _ => return None,
    };
    let group = Path::new(&tree).join(format!("feed-{}", std::process::id()));
    let [memory, swap] = limits.map(|it| group.join(it));
    let made = fs::create_dir(&group).and_then(|()| {
        let limited = fs::write(memory, bytes.to_string());
        // Not every system has a limit for what is swapped out, or swaps anything.
        drop(fs::write(swap, bytes.to_string()));
        limited.inspect_err(|_| drop(fs::remove_dir(&group)))
    });
    Some(made.map(|()| group))
}
