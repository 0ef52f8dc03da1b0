//! Arbitrary bytes decode or are refused; what decodes is what an encoder could have meant.
#![no_main]

use split_core::codec::DecodeError;
use split_fuzz::CodecInput;

libfuzzer_sys::fuzz_target!(|input: (CodecInput, Vec<u8>)| {
    let (codec, payload) = input;
    let Some(codec) = codec.codec() else { return };
    let mut codes = Vec::new();
    match codec.decode_codes(&payload, &mut codes) {
        Ok(()) => {
            let (mut again, mut back) = (Vec::new(), Vec::new());
            codec.encode_codes(&codes, &mut again).expect("decoded codes are valid");
            assert!(again.len() <= codec.max_payload_bytes());
            codec.decode_codes(&again, &mut back).expect("an encoder's payload decodes");
            assert_eq!(codes, back);
        }
        Err(DecodeError::TooLong { limit, .. }) => assert!(payload.len() > limit),
        Err(_) => assert!(codes.len() == codec.shape().values()),
    }
});
