//! Files that are whole or absent: written under another name, then renamed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
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

/// Adds a line to a log. A line that an earlier, failed call left unfinished is ended first, so that it spoils no other.
pub fn append_line(path: &Path, line: &str) -> io::Result<()> {
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let end = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{end}{line}\n").as_bytes())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Writing to `/dev/full` fails as on a full disk.
    fn full_disk_at(path: &Path) {
        std::os::unix::fs::symlink("/dev/full", path).expect("a link in a folder of its own");
    }

    #[test]
    fn on_a_full_disk_the_old_file_stays_and_no_part_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_whole(&path, b"old").unwrap();
        full_disk_at(&dir.path().join("state.part"));
        let error = write_whole(&path, b"new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_line_cut_short_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append_line(&path, "one").unwrap();
        fs::write(&path, "one\ntw").unwrap();
        append_line(&path, "three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntw\nthree\n");
    }
}
