//! Everything that is served, at one moment: the series and the page.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use split_core::Digest;

use crate::{
    assets::{Asset, REVALIDATE},
    page::Page,
    series::{Series, SeriesError},
};

/// The series by name, and the page.
pub(crate) struct Catalog {
    series: BTreeMap<String, Arc<Series>>,
    /// Series of earlier catalogs, for the connections that still use them.
    retired: Vec<Weak<Series>>,
    /// The list of series, as JSON.
    pub(crate) list: Asset,
    /// The page.
    pub(crate) page: Page,
}

impl Catalog {
    /// Reads all series of a folder, which may itself be one.
    pub(crate) fn load(models: &Path, page: Page) -> Result<Self, SeriesError> {
        let mut series = BTreeMap::new();
        for folder in series_folders(models)? {
            let loaded = Series::load(&folder)?;
            let name = loaded.manifest.series.clone();
            if series.insert(name.clone(), Arc::new(loaded)).is_some() {
                return Err(SeriesError::Twice {
                    folder: models.into(),
                    name,
                });
            }
        }
        let names: Vec<&String> = series.keys().collect();
        let list = serde_json::json!({ "series": names }).to_string();
        Ok(Self {
            list: Asset::new(list.into(), "application/json", REVALIDATE),
            series,
            retired: Vec::new(),
            page,
        })
    }

    /// The same catalog, with the series of an older one that connections still use.
    pub(crate) fn succeeding(mut self, older: &Self) -> Self {
        let current = older.series.values().map(Arc::downgrade);
        let retired = older.retired.iter().cloned().chain(current);
        self.retired = retired.filter(|it| it.strong_count() > 0).collect();
        self
    }

    /// The series of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Series>> {
        self.series.get(name)
    }

    /// The series for clients that name none: the first by name.
    pub(crate) fn default(&self) -> Option<&Arc<Series>> {
        self.series.values().next()
    }

    /// The series whose manifest has this digest, also while only older connections use it.
    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<Arc<Series>> {
        self.in_use().find(|it| it.digest == *digest)
    }

    /// The segment or codec at this path beside a manifest, whichever series it is part of.
    pub(crate) fn file(&self, path: &str) -> Option<Asset> {
        self.in_use().find_map(|it| it.file(path).cloned())
    }

    /// The longest message that any client has reason to send, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.in_use().map(|it| it.max_message_bytes()).max().unwrap_or_default()
    }

    /// Every series of today, by name.
    pub(crate) fn series(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.series.values()
    }

    fn in_use(&self) -> impl Iterator<Item = Arc<Series>> {
        let retired = self.retired.iter().filter_map(Weak::upgrade);
        self.series.values().cloned().chain(retired)
    }
}

fn series_folders(models: &Path) -> Result<Vec<PathBuf>, SeriesError> {
    if models.join("manifest.json").is_file() {
        return Ok(vec![models.into()]);
    }
    let read = |source: io::Error| SeriesError::Read {
        path: models.into(),
        source,
    };
    let mut folders = Vec::new();
    for entry in fs::read_dir(models).map_err(read)? {
        let folder = entry.map_err(read)?.path();
        if folder.join("manifest.json").is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    match folders.is_empty() {
        true => Err(SeriesError::NoSeries { folder: models.into() }),
        false => Ok(folders),
    }
}
