//! The container of a segment: a gzipped tar of `graph.nnef` and one `.dat` file per tensor.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder, read::GzDecoder};

/// The most bytes a segment may unpack to, 256 MiB: 128 million 16-bit weights, more than any one layer of the networks in use.
pub const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// Why an archive could not be unpacked. The bytes are damaged, or were never a segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Not a gzipped tar, cut off, or with a wrong checksum.
    #[error("the archive is damaged: {0}")]
    Damaged(#[from] io::Error),
    /// Refused before unpacking further.
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// [`MAX_UNPACKED_BYTES`].
        limit: u64,
    },
}

/// Packs a tar. The same bytes give the same bytes: no time is stored.
pub(crate) fn gzip(tar: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(tar)?;
    gzip.finish()
}

/// Puts named files together, in the order given. The same files give the same bytes: no time, user or host is stored.
pub(crate) fn tar<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> io::Result<Vec<u8>> {
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

/// The files of a tar, by name.
pub(crate) fn files(tar: &[u8]) -> Result<HashMap<String, &[u8]>, ArchiveError> {
    let mut files = HashMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let ends = [
            entry.raw_file_position(),
            entry.raw_file_position().saturating_add(entry.size()),
        ];
        let [start, end] = ends.map(|it| usize::try_from(it).unwrap_or(usize::MAX));
        let bytes = tar
            .get(start..end)
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        files.insert(name, bytes);
    }
    Ok(files)
}

/// Unpacks the gzip layer only, checking its length and checksum.
///
/// Reading to the end matters: tar readers stop at the last entry, before gzip's checksum.
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    // What a gzip file ends with is its length, unless it lies: weights of 16 bits do not shrink much.
    let claimed = bytes.last_chunk().map_or(0, |it| u32::from_le_bytes(*it) as usize);
    let mut tar = Vec::with_capacity(claimed.min(4 * bytes.len()));
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

    fn pack<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> io::Result<Vec<u8>> {
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
        io::copy(&mut io::repeat(0).take(MAX_UNPACKED_BYTES + 1), &mut gzip).unwrap();
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
