//! Any operations in any order, beside the model of `tests/model`.
#![no_main]
#![allow(dead_code)]

#[path = "../../tests/model/choices.rs"]
mod choices;
#[path = "../../tests/model/content.rs"]
mod content;
#[path = "../../tests/model/oracle.rs"]
mod oracle;
#[path = "../../tests/model/setups.rs"]
mod setups;
#[path = "../../tests/model/steps.rs"]
mod steps;
#[path = "../../tests/model/transactions.rs"]
mod transactions;
#[path = "../../tests/model/world.rs"]
mod world;

use choices::Choices;
use setups::Setup;
use std::sync::LazyLock;
use world::World;

/// Those in memory without threads, which do the same each time.
static SETUPS: LazyLock<Vec<Setup>> = LazyLock::new(|| {
    let named = ["tiny", "no filters", "expect hits", "lz4, mapped", "zstd, cached"];
    let mut setups = setups::in_memory();
    setups.retain(|setup| named.contains(&setup.name));
    setups.iter_mut().for_each(|setup| setup.content = setups::SMALL);
    setups
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((setup, data)) = data.split_first() else { return };
    let setup = &SETUPS[usize::from(*setup) % SETUPS.len()];
    let mut world = World::new(setup, 0, Choices::Bytes(data));
    for _ in 0..400 {
        if world.choices.is_empty() {
            break;
        }
        let (_, step) = steps::any(&mut world);
        step(&mut world);
    }
    world.reopen();
    steps::scan(&mut world);
});
