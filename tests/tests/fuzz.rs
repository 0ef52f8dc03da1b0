//! What the fuzzer found, replayed.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::{fs, path::Path};

/// A fault panics in its target, which the test's output names before it.
#[test]
fn what_the_fuzzer_found_stays_harmless() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in split_fuzz::TARGETS {
        let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(Result::unwrap).collect();
        assert!(inputs.len() > 50, "{} inputs for {name}", inputs.len());
        for input in inputs {
            println!("{}", input.path().display());
            target(&fs::read(input.path()).unwrap());
        }
    }
}
