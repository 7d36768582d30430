//! One writer at a time: in this process, and beside another one.
//!
//! A program of its own, as a lock of one test would be held for an instant by the child process
//! that another test starts.

use std::{path::Path, process::Command, sync::Arc};
use tonearm::{
    Builder, Db, ErrorKind, Result, Table,
    vfs::{Folder, mem::MemFolder},
};

fn quiet() -> Builder {
    Db::builder().threads(0).sync_interval(None)
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Tells a child process which folder to open.
const CHILD: &str = "TONEARM_TEST_CHILD";

/// Run in a child process by the test below; does nothing otherwise.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let text = match quiet().open(&path) {
        Ok(_) => "opened".into(),
        Err(error) => format!("{:?}", error.kind()),
    };
    let reader = Db::builder().open_read_only(&path).unwrap();
    let found = reader.lsm("table").unwrap().get(b"k").unwrap();
    println!("child: {text}, {found:?}");
}

fn run_child(path: &Path) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let args = ["--exact", "child", "--nocapture", "--test-threads=1"];
    let output = command.args(args).env(CHILD, path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text[text.find("child: ").unwrap()..].lines().next().unwrap().to_owned()
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let db = quiet().open(dir.path()).unwrap();
    let table = db.lsm("table").unwrap();
    table.insert(b"k", b"v").unwrap();
    assert_eq!(kind(Db::open(dir.path())), Some(ErrorKind::Locked));
    assert_eq!(run_child(dir.path()), "child: Locked, Some(b\"v\")");
    // Any handle keeps it open.
    drop(db);
    assert_eq!(kind(Db::open(dir.path())), Some(ErrorKind::Locked));
    drop(table);
    assert_eq!(run_child(dir.path()), "child: opened, Some(b\"v\")");
    Db::open(dir.path()).unwrap();

    let memory: Arc<dyn Folder> = Arc::new(MemFolder::default());
    let db = quiet().open_in(memory.clone()).unwrap();
    assert_eq!(kind(quiet().open_in(memory.clone())), Some(ErrorKind::Locked));
    drop(db);
    quiet().open_in(memory).unwrap();
}
