//! Arbitrary bytes are a message or are refused; a message comes back from its own bytes; manifests never panic.
#![no_main]

use split_core::{
    Digest, Manifest,
    session::Session,
    wire::{ClientMessage, ServerMessage},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut again = Vec::new();
    if let Ok(message) = ClientMessage::decode(bytes) {
        message.encode(&mut again);
        assert_eq!(ClientMessage::decode(&again), Ok(message));
    }
    again.clear();
    if let Ok(message) = ServerMessage::decode(bytes) {
        message.encode(&mut again);
        let back = ServerMessage::decode(&again).expect("an encoder's message decodes");
        // Probabilities may be NaN, so compare bytes.
        let mut third = Vec::new();
        back.encode(&mut third);
        assert_eq!(again, third);
    }
    let _ = Session::new(Digest::of(b"")).receive(bytes);
    let _ = Manifest::parse(bytes);
});
