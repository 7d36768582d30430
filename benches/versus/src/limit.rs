//! Runs with less memory than data: a control group that counts a process and the page cache it
//! fills, and lets neither grow past a limit. Needs to be allowed to make one (as root is).

use crate::engine::Result;
use rustix::fs::{Advice, fadvise};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Where groups are made: version 2 of control groups, or version 1's for memory.
const ROOTS: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// A group with a limit, removed when dropped.
pub struct Limit(PathBuf);

impl Limit {
    /// Makes a group that may take `mib`.
    pub fn new(mib: usize) -> Result<Self> {
        let (root, file) = ROOTS
            .into_iter()
            .find(|(root, file)| *file != "memory.max" && Path::new(root).join(file).exists())
            .unwrap_or(ROOTS[1]);
        let dir = Path::new(root).join(format!("versus-{}", std::process::id()));
        if !dir.exists() {
            fs::create_dir(&dir).map_err(|e| format!("make {}: {e}", dir.display()))?;
        }
        let limit = Self(dir);
        let path = limit.0.join(file);
        fs::write(&path, (mib << 20).to_string())
            .map_err(|e| format!("set {}: {e}", path.display()))?;
        Ok(limit)
    }

    /// Puts process `id` under the limit.
    pub fn take_in(&self, id: u32) -> Result<()> {
        Ok(fs::write(self.0.join("cgroup.procs"), id.to_string())?)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // A group that is left behind limits nobody.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Has the page cache forget all files in `dir`: whoever read them first is who they count for.
pub fn forget(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            fadvise(File::open(&path)?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
