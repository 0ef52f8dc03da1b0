//! The tensor files of a segment.
//!
//! A file is a header of 128 bytes and the values, all little-endian, as in section 5.2 of
//! [NNEF 1.0.5](https://registry.khronos.org/NNEF/specs/1.0/nnef-1.0.5.html).

use half::f16;

const HEADER_BYTES: usize = 128;
/// Magic number and version.
const START: [u8; 4] = [0x4e, 0xef, 1, 0];
/// The most axes that a header has room for.
const MAX_RANK: usize = 8;
/// Item type of floats.
const FLOAT: usize = 0;

/// Shape and values of a file. `None` if it is damaged or holds anything but floats of 16 or 32 bits.
pub fn read_tensor(file: &[u8]) -> Option<(Vec<usize>, Vec<f32>)> {
    let (header, values) = file.split_first_chunk::<HEADER_BYTES>()?;
    let word = |at: usize| Some(u32::from_le_bytes(*header[at..].first_chunk()?) as usize);
    let (bytes, rank, bits, item_type) = (word(4)?, word(8)?, word(44)?, word(48)?);
    let shape: Vec<usize> = (0..rank.min(MAX_RANK))
        .map(|it| word(12 + 4 * it))
        .collect::<Option<_>>()?;
    let count = shape
        .iter()
        .try_fold(1, |count: usize, axis| count.checked_mul(*axis))?;
    let is_sound = header.starts_with(&START) && rank <= MAX_RANK && item_type == FLOAT;
    let is_whole = values.len() == bytes && count.checked_mul(bits / 8) == Some(bytes);
    let values = match bits {
        _ if !is_sound || !is_whole => return None,
        16 => values
            .as_chunks()
            .0
            .iter()
            .map(|it| f16::from_le_bytes(*it).to_f32())
            .collect(),
        32 => values.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect(),
        _ => return None,
    };
    Some((shape, values))
}

#[cfg(test)]
mod tests {
    use tract_core::internal::{Tensor, tensor2};
    use tract_nnef::tensors::write_tensor;

    use super::*;

    fn file(tensor: &Tensor) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_tensor(&mut bytes, tensor).unwrap();
        bytes
    }

    #[test]
    fn reads_what_tract_writes() {
        let floats = tensor2(&[[1.0_f32, -0.5, 65504.0], [0.0, 6e-8, 2.0]]);
        let halves = floats.cast_to::<f16>().unwrap().into_owned();
        let expected = halves.cast_to::<f32>().unwrap();
        for (tensor, expected) in [(&floats, &floats), (&halves, expected.as_ref())] {
            let (shape, values) = read_tensor(&file(tensor)).unwrap();
            assert_eq!(shape, [2, 3]);
            assert_eq!(values, expected.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap());
        }
    }

    #[test]
    fn refuses_other_types() {
        for tensor in [
            tensor2(&[[1_i32]]),
            tensor2(&[[1.0_f64]]),
            tensor2(&[[1_u16]]),
            tensor2(&[[true]]),
        ] {
            assert_eq!(read_tensor(&file(&tensor)), None, "{tensor:?}");
        }
    }

    #[test]
    fn refuses_every_prefix_and_every_changed_length() {
        let sound = file(&tensor2(&[[1.0_f32, 2.0], [3.0, 4.0]]));
        assert!(read_tensor(&sound).is_some());
        for end in 0..sound.len() {
            assert_eq!(read_tensor(&sound[..end]), None, "{end} bytes");
        }
        // From the magic number to the item type, but for those dimensions that count for nothing at this rank.
        for at in (0..20).chain(44..52) {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = sound.clone();
                damaged[at] ^= flip;
                assert_eq!(read_tensor(&damaged), None, "byte {at} ^ {flip}");
            }
        }
    }
}
