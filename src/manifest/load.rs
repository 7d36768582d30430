//! Reading the state that is on disk.

use super::{
    Edit, State,
    current::{CURRENT, Current},
    record::{self, HEADER, Kind, MANIFEST_BYTES_MAX},
};
use crate::{
    Error, ErrorKind, Result,
    codec::Reader,
    vfs::{Access, Folder, read_whole},
};
use std::io;

/// How often a reader starts again because a writer was faster, before it gives up.
const ATTEMPTS: usize = 100;

/// The name of manifest `number`.
pub(super) fn manifest_name(number: u64) -> String {
    format!("manifest-{number:010}")
}

/// The number in a manifest's name.
pub(super) fn manifest_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("manifest-")?.parse().ok()?;
    (manifest_name(number) == name).then_some(number)
}

/// What `current` says; an error if there is none.
pub(super) fn read_current(folder: &dyn Folder) -> Result<Current> {
    match Current::read(folder)? {
        Some(current) => Ok(current),
        None => {
            check_never_created(folder)?;
            Err(Error::new(ErrorKind::NotFound, "there is no database in this folder"))
        }
    }
}

/// A folder without `current` is one where no database was ever made, or where making it was cut
/// short: then there is manifest 1 at the most. Anything more, and `current` has been lost.
pub(super) fn check_never_created(folder: &dyn Folder) -> Result<()> {
    let names = folder.list().map_err(|e| Error::io("list the folder of", CURRENT, e))?;
    let found = names.iter().find(|name| match manifest_number(name) {
        Some(number) => number != 1,
        None => is_data(name),
    });
    found.map_or(Ok(()), |name| {
        Err(Error::corrupt(CURRENT, 0, format!("it is missing, but {name} is there")))
    })
}

/// Whether it is named as runs, log segments and the like are: a number and what it is.
fn is_data(name: &str) -> bool {
    name.split_once('.').is_some_and(|(number, _)| {
        number.len() >= 10 && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The state on disk, while a writer may be at work.
///
/// A writer may replace the files between two reads, or append during one; what does not fit
/// together is damage only if it is still the same when looked at again.
pub(super) fn load(folder: &dyn Folder) -> Result<State> {
    let mut before: Option<Attempt> = None;
    for _ in 0..ATTEMPTS {
        let current = read_current(folder)?;
        let bytes = read_manifest(folder, &current);
        let result = match &bytes {
            Ok(bytes) => replay(bytes, &current),
            Err(e) => Err(e.clone()),
        };
        let attempt = Attempt { current, bytes: bytes.ok() };
        let settled = before.as_ref() == Some(&attempt);
        if result.is_ok() || settled {
            return result;
        }
        before = Some(attempt);
    }
    Err(Error::new(ErrorKind::Busy, "the manifest changed each time it was read"))
}

/// The state as far as it can be read, and what is wrong with the rest: for a database that is
/// damaged, and written by nobody.
pub(super) fn remains(folder: &dyn Folder) -> Result<(State, Option<Error>)> {
    let error = match load(folder) {
        Ok(state) => return Ok((state, None)),
        Err(error) => error,
    };
    let names = folder.list().map_err(|e| Error::io("list the folder of", CURRENT, e))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| manifest_number(name)).collect();
    // The newest counts; older ones are left only where removing them failed.
    numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    let state = numbers.into_iter().find_map(|number| {
        let file = folder.open(&manifest_name(number), Access::Read).ok()?;
        let fits = file.size().is_ok_and(|size| size <= MANIFEST_BYTES_MAX);
        beginning(&fits.then(|| read_whole(&*file).ok())??, number)
    });
    state.map(|state| (state, Some(error.clone()))).ok_or(error)
}

/// The state after all records of manifest `number` before the first that is damaged.
fn beginning(bytes: &[u8], number: u64) -> Option<State> {
    // A state begins with the database's id.
    let db_id = u128::from_le_bytes(*bytes.get(HEADER..)?.first_chunk()?);
    let seed = record::seed(db_id, number);
    let first = record::decode(bytes, seed, 0).filter(|record| record.kind == Kind::State)?;
    let mut state = State::decode(first.payload).filter(|state| state.db_id == db_id)?;
    let mut at = first.len;
    for number in 1.. {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(record) = record::decode(rest, seed, number) else { break };
        if record.kind != Kind::Edits || apply(&mut state, record.payload).is_err() {
            break;
        }
        at += record.len;
    }
    Some(state)
}

#[derive(PartialEq)]
struct Attempt {
    current: Current,
    bytes: Option<Vec<u8>>,
}

/// All bytes of the manifest that `current` names.
pub(super) fn read_manifest(folder: &dyn Folder, current: &Current) -> Result<Vec<u8>> {
    let name = manifest_name(current.number);
    let failed = |e| Error::io("read", &name, e);
    let file = match folder.open(&name, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::corrupt(&name, 0, "it is missing, but current names it"));
        }
        Err(e) => return Err(failed(e)),
    };
    if file.size().map_err(failed)? > MANIFEST_BYTES_MAX {
        return Err(Error::corrupt(&name, MANIFEST_BYTES_MAX, "it is over the limit of its size"));
    }
    read_whole(&*file).map_err(failed)
}

/// The state after all records of a manifest file that count.
pub(super) fn replay(bytes: &[u8], current: &Current) -> Result<State> {
    let name = manifest_name(current.number);
    let corrupt = |at: usize, what: String| Error::corrupt(&name, at as u64, what);
    let seed = record::seed(current.db_id, current.number);
    let (mut state, mut at) =
        first(bytes, current, seed).ok_or_else(|| corrupt(0, "its state is damaged".into()))?;
    for number in 1.. {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(record) = record::decode(rest, seed, number) else {
            if let Some(later) = record::find_later(rest, seed, number) {
                let later = at + later;
                return Err(corrupt(at, format!("record {number} is damaged: {later} is intact")));
            }
            break;
        };
        match record.kind {
            Kind::Edits if state.log_end != 0 => {
                return Err(corrupt(at, "edits of a database that is closed".into()));
            }
            Kind::Edits => {
                apply(&mut state, record.payload).map_err(|what| corrupt(at, what))?;
            }
            Kind::State => return Err(corrupt(at, "a second state".into())),
        }
        at += record.len;
    }
    Ok(state)
}

/// The state in the first record, and that record's length.
fn first(bytes: &[u8], current: &Current, seed: u64) -> Option<(State, usize)> {
    let len = usize::try_from(current.first_len).ok().filter(|len| *len >= HEADER)?;
    let record = record::decode(bytes.get(..len)?, seed, 0)?;
    let is_named = record.len == len && record.checksum == current.first_checksum;
    let state = State::decode(record.payload)?;
    (is_named && record.kind == Kind::State && state.db_id == current.db_id).then_some((state, len))
}

fn apply(state: &mut State, payload: &[u8]) -> Result<(), String> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        let edit = Edit::decode(&mut reader).ok_or("it holds what is no edit")?;
        state.apply(&edit)?;
    }
    Ok(())
}
