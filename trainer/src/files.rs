//! Files that are whole or absent: written under another name, then renamed.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Context;

/// A part that nobody has written to for this long was left by a program that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Tells this program's parts from those of others. Random, because in containers every program may be process 1.
static PROGRAM: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));

/// Writes a file so that whoever opens `path` sees the old content or the new, never a part.
///
/// Several programs may write the same file at once: the last one's content stays. On an error (a full disk) the part is
/// removed and the old file stays.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = part(path);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&part, path));
    if renamed.is_err() {
        // What is left of the part only takes room; the first error is the one to report.
        drop(fs::remove_file(&part));
    }
    remove_abandoned_parts(path);
    renamed
}

/// Name under which this program writes `path`.
pub(crate) fn part(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.part", *PROGRAM));
    path.with_file_name(name)
}

/// Removes what killed programs have left of `path`. They only take room, so no error is worth reporting.
fn remove_abandoned_parts(path: &Path) {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else {
        return;
    };
    // The parent of a bare name is empty.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let is_abandoned = |it: &fs::DirEntry| {
        let other = it.file_name();
        let (other, name) = (other.as_encoded_bytes(), name.as_encoded_bytes());
        let age = it.metadata().and_then(|it| it.modified()).map(|it| it.elapsed());
        other.starts_with(name) && other.ends_with(b".part") && matches!(age, Ok(Ok(age)) if age > ABANDONED)
    };
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(is_abandoned)
    {
        drop(fs::remove_file(entry.path()));
    }
}

/// Makes a folder and those around it, unless they are there. A path may end in `/.`, which [`fs::create_dir_all`] refuses.
pub fn make_folder(path: &Path) -> anyhow::Result<()> {
    let path: PathBuf = path.components().collect();
    fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[cfg(target_os = "linux")]
    #[test]
    fn on_a_full_disk_the_old_file_stays_and_no_part_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_whole(&path, b"old").unwrap();
        // Writing to `/dev/full` fails as on a full disk.
        std::os::unix::fs::symlink("/dev/full", part(&path)).unwrap();
        let error = write_whole(&path, b"new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn parts_that_others_are_writing_are_left_alone_and_those_they_abandoned_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["state.part", "state.1.part", "state.2.part", "other.1.part"] {
            fs::write(at(name), name).unwrap();
        }
        for name in ["state.2.part", "other.1.part"] {
            let file = File::options().write(true).open(at(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        }
        write_whole(&at("state"), b"whole").unwrap();
        assert_eq!(fs::read(at("state")).unwrap(), b"whole");
        for name in ["state.part", "state.1.part", "other.1.part"] {
            assert_eq!(fs::read(at(name)).unwrap(), name.as_bytes());
        }
        assert!(!at("state.2.part").exists());
    }

    #[test]
    fn folders_may_be_named_by_what_lies_in_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/b/.", "a/./c", "a/b"] {
            make_folder(&dir.path().join(name)).unwrap();
        }
        assert!(dir.path().join("a/b").is_dir() && dir.path().join("a/c").is_dir());
        fs::write(dir.path().join("file"), "").unwrap();
        let message = make_folder(&dir.path().join("file/d")).unwrap_err().to_string();
        assert!(
            message.contains("cannot make the folder") && message.contains("file/d"),
            "{message}"
        );
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
