//! Features that encode come back as the same codes, from a payload within its limit, no prefix of which decodes.
#![no_main]

use split_fuzz::CodecInput;

libfuzzer_sys::fuzz_target!(|input: (CodecInput, Vec<f32>)| {
    let (codec, mut features) = input;
    let Some(codec) = codec.codec() else { return };
    features.resize(codec.shape().values(), 0.3);
    let (mut codes, mut payload, mut back) = (Vec::new(), Vec::new(), Vec::new());
    if codec.encode(&features, &mut codes, &mut payload).is_err() {
        assert!(features.iter().any(|it| !it.is_finite()));
        return;
    }
    assert!(payload.len() <= codec.max_payload_bytes());
    codec.decode_codes(&payload, &mut back).expect("an encoder's payload decodes");
    assert_eq!(codes, back);
    for length in 0..payload.len() {
        assert!(codec.decode_codes(&payload[..length], &mut back).is_err());
    }
});
