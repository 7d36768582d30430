//! Where files go that nobody reads any more, until somebody has the time to unlink them.

use super::FileId;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

/// A file to be unlinked.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) file: FileId,
    pub(crate) name: String,
}

/// Files nobody reads any more, to be unlinked.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    dead: Mutex<Vec<Dead>>,
}

impl Graveyard {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The files that came since the last call.
    pub(crate) fn take(&self) -> Vec<Dead> {
        std::mem::take(&mut self.dead.lock())
    }
}

/// The end of an open file: part of whatever pins it. When the last pin is gone, a file that was
/// retired goes to the graveyard.
#[derive(Debug)]
pub(crate) struct Grave {
    file: FileId,
    name: String,
    graveyard: OnceLock<Arc<Graveyard>>,
}

impl Grave {
    pub(crate) fn new(file: FileId, name: String) -> Self {
        Self { file, name, graveyard: OnceLock::new() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Once nobody has the file any more, it goes `to` there.
    pub(crate) fn retire(&self, to: &Arc<Graveyard>) {
        self.graveyard.get_or_init(|| to.clone());
    }
}

impl Drop for Grave {
    fn drop(&mut self) {
        if let Some(graveyard) = self.graveyard.get() {
            let name = std::mem::take(&mut self.name);
            graveyard.dead.lock().push(Dead { file: self.file, name });
        }
    }
}
