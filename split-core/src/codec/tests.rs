use proptest::prelude::*;

use super::*;

fn shape() -> Shape {
    Shape::new(3, 4, 4).unwrap()
}

/// Sparse, blobby features from a small generator, so that the contexts have something to say.
fn features(seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..shape().values())
        .map(|it| {
            if it / 2 % 3 == 0 {
                (next() % 1000) as f32 / 250.0
            } else {
                0.0
            }
        })
        .collect()
}

fn codec(bits: u8) -> FeatureCodec {
    let spec = FeatureCodecSpec {
        bits,
        steps: vec![4.0 / ((1 << bits) - 1) as f32; 3],
        centres: vec![],
        tables: Tables::uniform(bits),
    };
    let raw = FeatureCodec::new(shape(), &spec).unwrap();
    let (mut all, mut codes) = (Vec::new(), Vec::new());
    for seed in 0..50 {
        raw.quantize(&features(seed), &mut codes).unwrap();
        all.extend_from_slice(&codes);
    }
    FeatureCodec::new(
        shape(),
        &FeatureCodecSpec {
            tables: calibrate(shape(), bits, &all),
            ..spec
        },
    )
    .unwrap()
}

fn encode(codec: &FeatureCodec, codes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    codec.encode_codes(codes, &mut payload).unwrap();
    payload
}

fn decode(codec: &FeatureCodec, payload: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut codes = Vec::new();
    codec.decode_codes(payload, &mut codes).map(|()| codes)
}

proptest! {
    #[test]
    fn any_codes_come_back_and_stay_within_one_byte_of_packed(bits in 1..=8_u8, codes in prop::collection::vec(any::<u8>(), 48)) {
        let codec = codec(bits);
        let codes: Vec<u8> = codes.into_iter().map(|it| (u16::from(it) % (1 << bits)) as u8).collect();
        let payload = encode(&codec, &codes);
        prop_assert!(payload.len() <= (48 * usize::from(bits)).div_ceil(8) + 1);
        prop_assert_eq!(decode(&codec, &payload), Ok(codes));
    }

    #[test]
    fn every_prefix_is_truncated_and_every_longer_payload_has_an_end(seed in any::<u32>(), bits in 1..=8_u8, extra in any::<u8>()) {
        let codec = codec(bits);
        let (mut codes, mut payload) = (Vec::new(), Vec::new());
        codec.encode(&features(seed), &mut codes, &mut payload).unwrap();
        for length in 0..payload.len() {
            let error = decode(&codec, &payload[..length]).unwrap_err();
            prop_assert!(matches!(error, DecodeError::Truncated { got, .. } if got == length), "{error:?}");
        }
        let expected = payload.len();
        payload.push(extra);
        let error = decode(&codec, &payload).unwrap_err();
        let trailing = DecodeError::Trailing { expected, got: expected + 1 };
        let too_long = DecodeError::TooLong { got: expected + 1, limit: codec.max_payload_bytes() };
        prop_assert!(error == trailing || error == too_long, "{error:?}");
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_are_what_an_encoder_could_write(bits in 1..=8_u8, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let codec = codec(bits);
        if let Ok(codes) = decode(&codec, &bytes) {
            let again = encode(&codec, &codes);
            // The encoder may have a shorter way (it never escapes without need), but not a longer one.
            prop_assert!(again.len() <= bytes.len());
            prop_assert_eq!(decode(&codec, &again), Ok(codes));
        }
    }

    #[test]
    fn values_come_back_within_half_a_step(bits in 1..=8_u8, seed in any::<u32>()) {
        let codec = codec(bits);
        let (features, mut codes, mut payload, mut back) = (features(seed), Vec::new(), Vec::new(), Vec::new());
        codec.encode(&features, &mut codes, &mut payload).unwrap();
        codec.decode(&payload, &mut codes, &mut back).unwrap();
        let half = 2.0 / ((1 << bits) - 1) as f32 + 1e-5;
        prop_assert!(features.iter().zip(&back).all(|(a, b)| (a - b).abs() <= half));
    }
}

#[test]
fn calibrated_tables_beat_packed_codes() {
    let codec = codec(4);
    let (mut codes, mut payload, mut bytes) = (Vec::new(), Vec::new(), 0);
    for seed in 1000..1100 {
        codec.encode(&features(seed), &mut codes, &mut payload).unwrap();
        bytes += payload.len();
    }
    assert!(bytes < 100 * 24 * 3 / 4, "{bytes} bytes");
}

#[test]
fn golden_payload() {
    let (mut codes, mut payload) = (Vec::new(), Vec::new());
    codec(3).encode(&features(7), &mut codes, &mut payload).unwrap();
    assert_eq!(payload, GOLDEN, "the format changed: raise the protocol version");
}

#[test]
fn a_dead_channel_costs_nothing() {
    let tables = Tables {
        predictors: vec![],
        costs: vec![16, 16],
    };
    let spec = FeatureCodecSpec {
        bits: 1,
        steps: vec![0.0, 1.0, 0.0],
        centres: vec![],
        tables,
    };
    let codec = FeatureCodec::new(shape(), &spec).unwrap();
    let (mut codes, mut payload) = (Vec::new(), Vec::new());
    codec.encode(&[1.0; 48], &mut codes, &mut payload).unwrap();
    assert_eq!(codes, [[0; 16], [1; 16], [0; 16]].concat());
    assert_eq!(payload.len(), 3);
}

#[test]
fn features_that_are_not_finite_are_refused_with_their_place() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut features = features(1);
        features[17] = bad;
        let error = codec(2).quantize(&features, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, EncodeError::NotFinite { index: 17, .. }), "{error}");
    }
}

#[test]
fn a_fraction_is_cut_off_as_a_cast_does() {
    for whole in (0..=255_u8).map(f32::from) {
        for value in [whole.next_down().max(0.0), whole, whole.next_up(), whole + 0.5] {
            assert_eq!(truncate(value), value as u8, "{value}");
        }
    }
}

#[test]
fn specs_that_do_not_fit_are_refused() {
    let good = FeatureCodecSpec {
        bits: 2,
        steps: vec![1.0; 3],
        centres: vec![],
        tables: Tables {
            predictors: vec![0; 3 * 42],
            costs: vec![9; 4],
        },
    };
    let check = |change: fn(&mut FeatureCodecSpec), expected: &str| {
        let mut spec = good.clone();
        change(&mut spec);
        assert_eq!(FeatureCodec::new(shape(), &spec).unwrap_err().to_string(), expected);
    };
    check(|it| it.bits = 9, "codes of 9 bits, expected 1 to 8");
    check(|it| it.steps.truncate(2), "2 quantiser steps for 3 channels");
    check(|it| it.centres = vec![0.0; 2], "2 quantiser centres for 3 channels");
    check(
        |it| it.centres = vec![0.0, f32::INFINITY, 0.0],
        "quantiser centre inf of channel 1 is not finite",
    );
    check(
        |it| it.steps[1] = f32::NAN,
        "quantiser step NaN of channel 1 is not zero or positive",
    );
    check(
        |it| it.tables.predictors[42] = 2,
        "channel 1 is predicted from 2 channels back",
    );
    check(
        |it| it.tables.predictors.truncate(80),
        "predictors of 80 bytes, expected 126 or none",
    );
    check(
        |it| it.tables.costs.truncate(3),
        "3 cost bytes, expected 1 to 96 tables of 4",
    );
}

/// Payload of `features(7)` with tables from the 50 images of `codec(3)`.
const GOLDEN: &[u8] = &[171, 204, 108, 40, 128, 210, 133, 249];

#[test]
fn with_centres_features_may_be_negative() {
    let spec = FeatureCodecSpec {
        bits: 2,
        steps: vec![1.0, 0.5, 0.0],
        centres: vec![-1.5, 0.0, 0.25],
        tables: Tables::uniform(2),
    };
    let codec = FeatureCodec::new(Shape::new(3, 1, 2).unwrap(), &spec).unwrap();
    let (mut codes, mut payload, mut back) = (Vec::new(), Vec::new(), Vec::new());
    codec
        .encode(&[-9.0, 0.4, 0.4, 9.0, 0.3, 7.0], &mut codes, &mut payload)
        .unwrap();
    assert_eq!(codes, [0, 2, 1, 3, 0, 0]);
    codec.decode(&payload, &mut codes, &mut back).unwrap();
    assert_eq!(back, [-1.5, 0.5, 0.5, 1.5, 0.25, 0.25]);
}
