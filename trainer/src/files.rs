//! Files that are whole or absent: written under another name, then renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file so that whoever opens `path` sees the old content or the new, never a part.
///
/// On an error (a full disk) the part is removed and the old file stays.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&part, path));
    if renamed.is_err() {
        // What is left of the part only takes room; the first error is the one to report.
        drop(fs::remove_file(&part));
    }
    renamed
}
