#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aiki_proof::fuzzed::config(bytes));
