//! The program that the README begins with.

use tonearm::{Db, Durability, OrderedTable, Table, key};

fn main() -> tonearm::Result<()> {
    let db = Db::open("music")?; // one folder, one log, one lock
    let listens = db.lsm("listens")?; // handles: cheap clones, Send + Sync
    listens.insert(&key::encode(&("ada", 2025u16)), b"So What")?;
    for entry in listens.prefix(&key::encode(&"ada")).rev() {
        let (key, song) = entry?;
        println!("{:?}: {song:?}", key::decode::<(String, u16)>(&key)?);
    }
    let mut batch = db.batch(); // atomic over tables and engines
    batch.insert(&listens, key::encode(&("bob", 2025u16)), "Naima");
    batch.insert(&db.hash("cards")?, "bob", "1 song");
    batch.commit(Durability::PowerLoss) // Ok: one sync, survives a pulled plug
}
