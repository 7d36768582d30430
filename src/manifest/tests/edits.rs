//! Edits against a model, with the manifest opened anew between commits.

use super::*;
use crate::{
    ErrorKind,
    codec::Reader,
    manifest::{FileRecord, TABLE_NAME_MAX, current::Current, record},
};
use proptest::prelude::*;

/// A table of the model: name, options, settled, root, files in order.
#[derive(Clone, Debug, Default, PartialEq)]
struct Table {
    name: String,
    options: Bytes,
    settled: u64,
    root: Bytes,
    files: Vec<u64>,
}

/// What a state should say, in the plainest form; `None` from `apply` refuses.
#[derive(Clone, Debug, Default)]
struct Model {
    tables: Vec<(TableId, Table)>,
    used_ids: Vec<TableId>,
    log_start: u64,
    last_seq: u64,
    next_file: u64,
}

impl Model {
    fn table(&mut self, id: TableId) -> Option<&mut Table> {
        self.tables.iter_mut().find(|(other, _)| *other == id).map(|(_, table)| table)
    }

    fn is_free(&self, name: &str) -> bool {
        !name.is_empty()
            && name.len() <= TABLE_NAME_MAX
            && self.tables.iter().all(|(_, table)| table.name != name)
    }

    fn apply(&mut self, edit: &Edit) -> Option<()> {
        match edit.clone() {
            Edit::CreateTable { id, name, options, .. } => {
                let is_new = id > 0 && self.used_ids.iter().all(|used| *used < id);
                (is_new && self.is_free(&name)).then_some(())?;
                self.used_ids.push(id);
                self.tables.push((id, Table { name, options, ..Table::default() }));
            }
            Edit::DropTable(id) => {
                self.table(id)?;
                self.tables.retain(|(other, _)| *other != id);
            }
            Edit::RenameTable { id, name } => {
                let same = self.table(id)?.name == name;
                (same || self.is_free(&name)).then_some(())?;
                self.table(id)?.name = name;
            }
            Edit::SetOptions { id, options } => self.table(id)?.options = options,
            Edit::SetRoot { table, root } => self.table(table)?.root = root,
            Edit::SetSettled { table, seq } => raise(&mut self.table(table)?.settled, seq)?,
            Edit::AddFile { table, file, .. } => {
                let taken = self.tables.iter().any(|(_, table)| table.files.contains(&file));
                (!taken).then_some(())?;
                self.table(table)?.files.push(file);
                self.next_file = self.next_file.max(file + 1);
            }
            Edit::RemoveFile { table, file } => {
                let files = &mut self.table(table)?.files;
                let at = files.iter().position(|other| *other == file)?;
                files.remove(at);
            }
            Edit::SetLogStart(segment) => raise(&mut self.log_start, segment)?,
            Edit::SetNextFile(file) => raise(&mut self.next_file, file)?,
            Edit::SetLastSeq(seq) => raise(&mut self.last_seq, seq)?,
        }
        Some(())
    }

    fn assert_is(&self, state: &State) {
        assert_eq!(state.tables.len(), self.tables.len());
        for (id, table) in &self.tables {
            let record = state.table(*id).unwrap();
            assert_eq!(state.table_named(&table.name), Some(record));
            assert_eq!((&record.name, &record.options), (&table.name, &table.options));
            assert_eq!((record.settled, &record.root), (table.settled, &table.root));
            let files: Vec<_> = record.runs.iter().map(|run| run.file).collect();
            assert_eq!(files, table.files);
        }
        let mut files: Vec<_> = self.tables.iter().flat_map(|(_, table)| &table.files).collect();
        files.sort();
        assert!(state.live_files().eq(files.into_iter().copied()));
        assert_eq!((state.log_start, state.last_seq), (self.log_start, self.last_seq));
        assert_eq!(state.next_file, self.next_file);
        assert_eq!(state.next_table, self.used_ids.iter().max().unwrap_or(&0) + 1);
    }
}

fn raise(number: &mut u64, to: u64) -> Option<()> {
    (to >= *number).then(|| *number = to)
}

fn edit() -> impl Strategy<Value = Edit> {
    let id = || 0u32..8;
    let file = || 0u64..12;
    let name = || prop_oneof!["[ab]{0,2}", Just("n".repeat(255)), Just("n".repeat(256))];
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    prop_oneof![
        3 => (id(), name(), bytes())
            .prop_map(|(id, name, options)| Edit::CreateTable { id, name, engine: 2, options }),
        1 => id().prop_map(Edit::DropTable),
        2 => (id(), name()).prop_map(|(id, name)| Edit::RenameTable { id, name }),
        1 => (id(), bytes()).prop_map(|(id, options)| Edit::SetOptions { id, options }),
        6 => (id(), 0u8..7, file(), any::<u64>(), bytes()).prop_map(
            |(table, level, file, bytes, meta)| Edit::AddFile { table, level, file, bytes, meta }
        ),
        3 => (id(), file()).prop_map(|(table, file)| Edit::RemoveFile { table, file }),
        1 => (id(), 0u64..30).prop_map(|(table, seq)| Edit::SetSettled { table, seq }),
        1 => (id(), bytes()).prop_map(|(table, root)| Edit::SetRoot { table, root }),
        1 => (0u64..30).prop_map(Edit::SetLogStart),
        1 => (0u64..30).prop_map(Edit::SetNextFile),
        1 => (0u64..30).prop_map(Edit::SetLastSeq),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn commits_do_what_the_model_does(
        commits in prop::collection::vec((prop::collection::vec(edit(), 0..4), 0u8..4), 0..40),
        roll_bytes in prop_oneof![Just(0u64), Just(200), Just(1 << 20)],
    ) {
        let folder = mem();
        let (mut manifest, first) = Manifest::create(&folder, DB_ID).unwrap();
        let mut model = Model { log_start: 0, next_file: 1, ..Model::default() };
        model.assert_is(&first);
        manifest.set_roll_bytes(roll_bytes);
        for (edits, then) in commits {
            let mut next = model.clone();
            if edits.iter().all(|edit| next.apply(edit).is_some()) {
                manifest.commit(&edits).unwrap();
                model = next;
            } else {
                prop_assert_eq!(manifest.commit(&edits).unwrap_err().kind(), ErrorKind::Misuse);
            }
            model.assert_is(manifest.state());
            prop_assert_eq!(&Manifest::load(&*folder).unwrap(), manifest.state());
            if then == 1 {
                manifest.close(7, 0).unwrap();
                prop_assert_eq!(manifest.state().log_end, 7);
            }
            if then <= 2 {
                let before = manifest.state().clone();
                let (opened, state) = Manifest::open(&folder).unwrap();
                prop_assert_eq!(&state, &before);
                prop_assert_eq!(manifests(&*folder).len(), 1);
                manifest = opened;
                manifest.set_roll_bytes(roll_bytes);
            }
        }
    }

    #[test]
    fn encoding_is_deterministic_and_exact(edits in prop::collection::vec(edit(), 0..60)) {
        let mut state = State::new(DB_ID);
        for edit in &edits {
            let mut bytes = Vec::new();
            edit.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            let decoded = Edit::decode(&mut reader);
            prop_assert_eq!(decoded.as_ref(), Some(edit));
            prop_assert!(reader.is_empty());
            let _ = state.apply(edit);
        }
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let decoded = State::decode(&bytes).unwrap();
        prop_assert_eq!(&decoded, &state);
        let mut again = Vec::new();
        decoded.encode(&mut again);
        prop_assert_eq!(&again, &bytes);
        for cut in 0..bytes.len() {
            prop_assert_eq!(State::decode(&bytes[..cut]), None);
        }
    }

    #[test]
    fn any_bytes_decode_without_panic(bytes: Vec<u8>) {
        let _ = State::decode(&bytes);
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() && Edit::decode(&mut reader).is_some() {}
    }
}

#[test]
fn files_keep_the_order_they_were_added_in() {
    let mut state = State::new(DB_ID);
    let edits = [create_table(1, "t"), add_file(1, 9), add_file(1, 4), add_file(1, 6)];
    state.apply_all(&edits).unwrap();
    state.apply_all(&[Edit::RemoveFile { table: 1, file: 4 }, add_file(1, 4)]).unwrap();
    let files: Vec<_> = state.tables[&1].runs.iter().map(|FileRecord { file, .. }| *file).collect();
    assert_eq!(files, [9, 6, 4]);
    assert!(state.is_live(4) && !state.is_live(5));
}

/// What a manifest consists of, byte for byte.
#[test]
fn states_edits_and_records_are_written_as_ever() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut state = states(&history()).pop().unwrap();
    state.log_end = 0x4_0000_1234;
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    assert_eq!(
        hex(&bytes),
        "8877665544332211efcdab8967452301140302b4a4808040630201076c697374656e7301076f7074\
             696f6e730a0002000280201402020202020202020202020202020202020202020003802014030303\
             03030303030303030303030303030303030205736f6e677301076f7074696f6e7300017201000780\
             20140707070707070707070707070707070707070707"
    );
    let edits = history()
        .concat()
        .into_iter()
        .chain([Edit::SetOptions { id: 2, options: Bytes::from_static(b"o") }, Edit::DropTable(1)]);
    let fill = |out: &mut Vec<u8>| edits.for_each(|edit| edit.encode(out));
    let record = record::encode(record::seed(DB_ID, 3), record::Kind::Edits, 1, fill).unwrap();
    assert_eq!(
        hex(&record),
        "7b919c190e29216aae0000000200000001000000000000000101076c697374656e7301076f707469\
             6f6e7305010001802014010101010101010101010101010101010101010107010a09020102056361\
             72647301076f7074696f6e7308020172060101050100028020140202020202020202020202020202\
             020202020202050100038020140303030303030303030303030303030303030303030205736f6e67\
             730b630502000780201407070707070707070707070707070707070707070a140402016f02010000"
    );
    let current = Current { db_id: DB_ID, number: 3, first_len: 96, first_checksum: 7 };
    assert_eq!(
        hex(&current.encode()),
        "746f6e6561726d0ab226169cfb5f6a6601000000000000008877665544332211efcdab8967452301\
             030000000000000060000000000000000700000000000000"
    );
}
