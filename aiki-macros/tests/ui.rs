//! What the compiler says to a mistake. After a change that is meant: `TRYBUILD=overwrite cargo test -p aiki-macros`,
//! and read what it wrote.

/// The texts are those of one compiler; others word them differently.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn mistakes_are_answered_in_readable_sentences() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc).arg("--version").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout);
    if !version.starts_with(COMPILER) {
        eprintln!("the texts are not compared: they are those of {COMPILER}, this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
