//! The container of a segment: a gzipped tar of `graph.nnef` and one `.dat` file per tensor.

use std::io::{Read, Write};

use flate2::{Compression, GzBuilder, read::GzDecoder};

/// The most bytes a segment may unpack to, 256 MiB: 128 million 16-bit weights, more than any one layer of the networks in use.
pub const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// Why an archive could not be unpacked. The bytes are damaged, or were never a segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Not gzip, cut off, or with a wrong checksum.
    #[error("the archive is damaged: {0}")]
    Damaged(#[from] std::io::Error),
    /// Refused before unpacking further.
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// [`MAX_UNPACKED_BYTES`].
        limit: u64,
    },
}

/// Packs a tar. The same bytes give the same bytes: no time is stored.
pub(crate) fn gzip(tar: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(tar)?;
    gzip.finish()
}

/// Puts named files together, in the order given. The same files give the same bytes: no time, user or host is stored.
pub(crate) fn tar<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, name, bytes)?;
    }
    tar.into_inner()
}

/// Unpacks the gzip layer only, checking its length and checksum; the tar inside is read by tract.
///
/// Reading to the end matters: tar readers stop at the last entry, before gzip's checksum.
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let mut tar = Vec::new();
    GzDecoder::new(bytes)
        .take(MAX_UNPACKED_BYTES + 1)
        .read_to_end(&mut tar)?;
    if tar.len() as u64 > MAX_UNPACKED_BYTES {
        return Err(ArchiveError::TooLarge {
            limit: MAX_UNPACKED_BYTES,
        });
    }
    Ok(tar)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> std::io::Result<Vec<u8>> {
        gzip(&tar(files)?)
    }

    #[test]
    fn same_files_same_bytes() {
        let files = [("a", &b"one"[..]), ("b", &b"two"[..])];
        assert_eq!(pack(files).unwrap(), pack(files).unwrap());
    }

    #[test]
    fn refuses_a_bomb() {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        std::io::copy(&mut std::io::repeat(0).take(MAX_UNPACKED_BYTES + 1), &mut gzip).unwrap();
        let bomb = gzip.finish().unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(matches!(gunzip(&bomb), Err(ArchiveError::TooLarge { .. })));
    }

    #[test]
    fn refuses_every_flipped_byte() {
        let packed = pack([("a", &b"some bytes that matter"[..])]).unwrap();
        let original = gunzip(&packed).unwrap();
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x55;
            // A flip in a header field that carries no content, such as the time, may pass, but never changes the content.
            if let Ok(unpacked) = gunzip(&damaged) {
                assert_eq!(unpacked, original, "byte {at}");
            }
        }
    }
}
