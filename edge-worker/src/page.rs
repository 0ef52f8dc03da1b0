//! The page: every file of a folder, by its URL path.
//!
//! The folder is read once. A request looks its path up in a map, so no path can lead outside the folder. Beside `NAME`, `NAME.br` is its
//! compressed form: the page's build writes it, because compressing some megabytes would delay every start of the server.

use std::{
    collections::HashMap,
    fs, io,
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
    #[error("cannot read the page's file '{}': {source}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder holds no page.
    #[error("'{}' holds no index.html: build the page first (`npm run build` in web), or name its folder with --web", .folder.display())]
    NoIndex {
        /// The folder.
        folder: PathBuf,
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
            let read = |source| PageError::Read {
                path: path.clone(),
                source,
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
                let compressed = contents.get(&compressed_path(path)).cloned();
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

fn files(folder: &Path) -> Result<Vec<PathBuf>, PageError> {
    let read = |path: &Path, source| PageError::Read {
        path: path.into(),
        source,
    };
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|it| read(&folder, it))? {
            let entry = entry.map_err(|it| read(&folder, it))?;
            // Of the entry itself: symbolic links are neither followed nor served.
            let kind = entry.file_type().map_err(|it| read(&entry.path(), it))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
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
    use super::*;

    #[test]
    fn serves_what_is_in_the_folder_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dist");
        fs::create_dir_all(folder.join("assets")).unwrap();
        fs::write(root.path().join("secret"), "s").unwrap();
        fs::write(folder.join("index.html"), "<html>").unwrap();
        fs::write(folder.join("assets/app-1234.js"), "1").unwrap();
        fs::write(folder.join("assets/app-1234.js.br"), "its compressed form").unwrap();
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

    #[test]
    fn a_folder_without_a_page_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Page::load(folder.path()).err().unwrap().to_string();
        assert!(error.contains("npm run build"), "{error}");
    }
}
