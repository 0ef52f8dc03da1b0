//! The page: every file of a folder, by its URL path.
//!
//! The folder is read once. A request looks its path up in a map, so no path can lead outside the folder. Symbolic links are followed
//! where they lead to something inside the folder, because that is how Kubernetes mounts a ConfigMap. Hidden files are never served.
//! Beside `NAME`, `NAME.br` is its compressed form: the page's build writes it, because compressing some megabytes would delay every
//! start of the server.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::assets::{Asset, IMMUTABLE, REVALIDATE};

/// The files of the page.
#[derive(Default)]
pub(crate) struct Page {
    files: HashMap<String, Asset>,
}

/// Why the page could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The folder, or something in it, cannot be read.
    #[error("cannot read the page's file '{}': {cause}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The folder holds no page.
    #[error("'{}' holds no index.html: build the page first (`npm run build` in web), or name its folder with --web", .folder.display())]
    NoIndex {
        /// The folder.
        folder: PathBuf,
    },
    /// A compressed file that holds something else than the file beside it.
    #[error("'{}' is not the compressed form of the file beside it: build the page again, or remove this file", .path.display())]
    Compressed {
        /// The compressed file.
        path: PathBuf,
    },
    /// More than a page has.
    #[error("'{}' holds more than {limit} bytes: that is not the folder of a built page", .folder.display())]
    TooLarge {
        /// The folder.
        folder: PathBuf,
        /// The most bytes of a page.
        limit: u64,
    },
}

/// The most bytes of a page, which is held in memory: 256 MiB.
const MAX_PAGE_BYTES: u64 = 256 << 20;

impl Page {
    /// Reads a folder.
    pub(crate) fn load(folder: &Path) -> Result<Self, PageError> {
        let index = folder.join("index.html");
        if !index.is_file() {
            return Err(PageError::NoIndex { folder: folder.into() });
        }
        let mut page = Self::default();
        let mut contents = HashMap::new();
        let mut bytes = 0;
        for path in files(folder)? {
            let read = |cause| PageError::Read {
                path: path.clone(),
                cause,
            };
            bytes += fs::metadata(&path).map_err(read)?.len();
            if bytes > MAX_PAGE_BYTES {
                return Err(PageError::TooLarge {
                    folder: folder.into(),
                    limit: MAX_PAGE_BYTES,
                });
            }
            let content = Bytes::from(fs::read(&path).map_err(read)?);
            contents.insert(path, content);
        }
        for (path, content) in &contents {
            let is_compressed_form =
                path.extension().is_some_and(|it| it == "br") && contents.contains_key(&path.with_extension(""));
            if !is_compressed_form {
                let compressed_path = compressed_path(path);
                let compressed = contents.get(&compressed_path).cloned();
                if compressed.as_ref().is_some_and(|it| !is_compressed(it, content)) {
                    return Err(PageError::Compressed { path: compressed_path });
                }
                let asset = asset(folder, path, content.clone(), compressed);
                page.files.insert(url(folder, path), asset);
            }
        }
        Ok(page)
    }

    /// The file at a URL path that starts with `/`; a folder's is its index.html.
    pub(crate) fn get(&self, path: &str) -> Option<&Asset> {
        match path.ends_with('/') {
            true => self.files.get(&format!("{path}index.html")),
            false => self.files.get(path),
        }
    }

    /// Whether no page is served.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Every file of a folder that is not hidden, as a path below it.
fn files(folder: &Path) -> Result<Vec<PathBuf>, PageError> {
    let root = fs::canonicalize(folder).map_err(|cause| PageError::Read {
        path: folder.into(),
        cause,
    })?;
    let mut found = Vec::new();
    walk(folder, &root, &mut vec![root.clone()], &mut found)?;
    Ok(found)
}

/// Collects the files of a folder. `root` and `above`, the folders that lead to it, are without symbolic links.
fn walk(folder: &Path, root: &Path, above: &mut Vec<PathBuf>, found: &mut Vec<PathBuf>) -> Result<(), PageError> {
    let read = |path: &Path, cause| PageError::Read {
        path: path.into(),
        cause,
    };
    for entry in fs::read_dir(folder).map_err(|it| read(folder, it))? {
        let entry = entry.map_err(|it| read(folder, it))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let target = fs::canonicalize(&path).map_err(|it| read(&path, it))?;
        if !target.starts_with(root) {
            tracing::warn!(path = %path.display(), "a link that leads out of the page's folder is not served");
        } else if target.is_file() {
            found.push(path);
        } else if target.is_dir() && !above.contains(&target) {
            above.push(target);
            walk(&path, root, above, found)?;
            above.pop();
        }
    }
    Ok(())
}

/// Whether this is the compressed form of that content.
fn is_compressed(compressed: &[u8], content: &[u8]) -> bool {
    let mut plain = Vec::new();
    // One byte more than there should be, so that a bomb stays small.
    let mut limited = brotli::Decompressor::new(compressed, 4096).take(content.len() as u64 + 1);
    limited.read_to_end(&mut plain).is_ok() && plain == content
}

fn url(folder: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(folder).unwrap_or(path);
    let parts = relative.components().map(|it| it.as_os_str().to_string_lossy());
    parts.fold(String::new(), |url, part| url + "/" + &part)
}

fn compressed_path(path: &Path) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(".br");
    name.into()
}

fn asset(folder: &Path, path: &Path, content: Bytes, compressed: Option<Bytes>) -> Asset {
    let mime = mime_guess::from_path(path).first_or_octet_stream();
    let content_type = match mime.type_() == "text" {
        true => format!("{mime}; charset=utf-8"),
        false => mime.to_string(),
    };
    // Vite puts what it names by content there.
    let hashed = path.starts_with(folder.join("assets"));
    let cache = if hashed { IMMUTABLE } else { REVALIDATE };
    let asset = Asset::new(content, content_type, cache);
    match compressed {
        Some(compressed) => asset.with_brotli(compressed),
        None if mime.type_() == "image" && mime.subtype() != "svg" => asset,
        None => asset.compressed(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn serves_what_is_in_the_folder_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dist");
        fs::create_dir_all(folder.join("assets")).unwrap();
        fs::write(root.path().join("secret"), "s").unwrap();
        fs::write(folder.join("index.html"), "<html>").unwrap();
        fs::write(folder.join("assets/app-1234.js"), "1").unwrap();
        fs::write(folder.join("assets/app-1234.js.br"), compressed("1")).unwrap();
        fs::write(folder.join("own.br"), "of no other file").unwrap();
        let page = Page::load(&folder).unwrap();
        assert_eq!(page.files.len(), 3);
        for (path, found) in [
            ("/", true),
            ("/index.html", true),
            ("/assets/app-1234.js", true),
            ("/assets/app-1234.js.br", false),
            ("/own.br", true),
            ("/assets/", false),
            ("/assets", false),
            ("/../secret", false),
            ("//index.html", false),
            ("", false),
        ] {
            assert_eq!(page.get(path).is_some(), found, "{path}");
        }
    }

    fn compressed(text: &str) -> Vec<u8> {
        let mut compressed = Vec::new();
        brotli::BrotliCompress(&mut text.as_bytes(), &mut compressed, &Default::default()).unwrap();
        compressed
    }

    /// As Kubernetes mounts a ConfigMap.
    #[test]
    fn links_are_followed_within_the_folder_and_hidden_files_are_not_served() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("secret"), "s").unwrap();
        let folder = root.path().join("web");
        let data = folder.join("..2026_01_01_00_00_00.123456789");
        fs::create_dir_all(data.join("assets")).unwrap();
        fs::write(data.join("index.html"), "<html>").unwrap();
        fs::write(data.join("assets/app.js"), "1").unwrap();
        symlink(data.file_name().unwrap(), folder.join("..data")).unwrap();
        symlink("..data/index.html", folder.join("index.html")).unwrap();
        symlink("..data/assets", folder.join("assets")).unwrap();
        // Around in circles, and out.
        symlink(".", folder.join("again")).unwrap();
        symlink("../secret", folder.join("secret")).unwrap();
        symlink("..", folder.join("above")).unwrap();
        fs::write(folder.join(".env"), "s").unwrap();
        fs::create_dir(folder.join(".git")).unwrap();
        fs::write(folder.join(".git/config"), "s").unwrap();
        let page = Page::load(&folder).unwrap();
        let mut urls: Vec<_> = page.files.keys().map(String::as_str).collect();
        urls.sort_unstable();
        assert_eq!(urls, ["/assets/app.js", "/index.html"]);
    }

    #[test]
    fn a_compressed_file_must_hold_what_the_file_beside_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.html"), "<html>").unwrap();
        let bomb = compressed(&"a".repeat(1 << 20));
        for (content, sound) in [
            (compressed("<html>"), true),
            (compressed("<html> of yesterday"), false),
            (b"garbage".to_vec(), false),
            (Vec::new(), false),
            (bomb, false),
        ] {
            fs::write(folder.path().join("index.html.br"), &content).unwrap();
            match Page::load(folder.path()) {
                Ok(_) => assert!(sound),
                Err(error) => assert!(!sound && error.to_string().contains("index.html.br"), "{error}"),
            }
        }
    }

    #[test]
    fn a_folder_without_a_page_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Page::load(folder.path()).err().unwrap().to_string();
        assert!(error.contains("npm run build"), "{error}");
    }
}
