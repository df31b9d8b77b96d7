//! The fuzz targets on stable Rust: every file of the corpus, and some thousand changes of each.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aiki_proof::fuzzed::TARGETS;
use aiki_proof::requests::REQUESTS;
use aiki_server::http::procedure_names;
use aiki_server::program::read_configuration;
use aiki_wire::depth::DEFAULT_DEPTH_LIMIT;
use aiki_wire::envelope::open_request;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A change of a few bytes: one is set, taken out, doubled, or the rest is cut off or said again.
fn change(mut bytes: Vec<u8>, changes: &[(usize, u8, u8)]) -> Vec<u8> {
    for (place, kind, byte) in changes {
        let at = place % (bytes.len() + 1);
        match kind % 5 {
            0 if at < bytes.len() => bytes[at] = *byte,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, *byte),
            3 => bytes.truncate(at),
            _ => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail.into_iter().take(4_096));
            }
        }
    }
    bytes
}

#[test]
fn nothing_from_outside_makes_a_reader_panic() {
    for (name, feed) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 5, "the corpus of {name} is missing");
        corpus.iter().for_each(|bytes| feed(bytes));
        let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
        let changes = prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..6);
        let strategy = (prop::sample::select(corpus), changes);
        let outcome = TestRunner::new(config).run(&strategy, |(bytes, changes)| {
            feed(&change(bytes, &changes));
            Ok(())
        });
        assert!(outcome.is_ok(), "{name}: {}", outcome.unwrap_err());
    }
}

#[test]
fn every_procedure_reads_something_of_the_corpus() {
    let named: BTreeSet<_> = REQUESTS.iter().map(|(name, _)| *name).collect();
    let served: BTreeSet<_> = procedure_names().into_iter().collect();
    assert_eq!(named, served, "the fuzz target reads other inputs than the server");
    let corpus = corpus("body");
    let inputs: Vec<_> = corpus.iter().filter_map(|body| open_request(body, DEFAULT_DEPTH_LIMIT).ok()?).collect();
    for (name, read) in REQUESTS {
        assert!(inputs.iter().any(|input| read(Some(input)).is_ok()), "{name} refuses the whole corpus");
    }
}

#[test]
fn a_server_starts_with_some_file_of_the_corpus() {
    let understood = corpus("config").iter().any(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.contains("payload_limit") && read_configuration(&text).is_ok()
    });
    assert!(understood, "every file is refused");
}
