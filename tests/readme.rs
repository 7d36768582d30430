//! The README shows a program that is compiled and run, not a copy that drifts away from it.

#[test]
fn the_readme_shows_the_first_example() {
    let readme = include_str!("../README.md");
    let block = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let squeeze = |code: &str| {
        let lines = code.lines().filter(|line| !line.starts_with("//!"));
        let words = lines.flat_map(str::split_whitespace);
        words.collect::<Vec<_>>().join(" ")
    };
    let example = squeeze(include_str!("../examples/first.rs"));
    assert_eq!(squeeze(block.unwrap()), example);
}
